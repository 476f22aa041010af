-- One row per text with words: its distinct words, sorted. Equal for equal word sets.
-- reads: words   params: none
select key, string_agg(word, ' ' order by word) as words
from words
group by key
