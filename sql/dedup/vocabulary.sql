-- One row per distinct word, ranked rare first. Any total order is correct; rare first is fast.
-- reads: words   params: none
select
    word,
    row_number() over (order by count(*), word)::integer as word_rank
from words
group by word
