-- From which page, and through which personas, does a record come?
-- One row per record. Add "where record_id = '...'" for one of them. reads: marts.lineage
select
    domain,
    record_id,
    left(text, 100) as text_begins,
    persona_path,
    title,
    url,
    license,
    model
from marts.lineage
order by domain, record_id
