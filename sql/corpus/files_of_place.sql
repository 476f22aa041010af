-- One row per file that was ever seen in a watched place.
-- reads: corpus.files   params: $place
select
    file, state, byte_count, modified_at, document_count, new_count, rejected_count, first_seen_at
from corpus.files
where place = $place
order by file
