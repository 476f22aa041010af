-- One row per persona with words: the ranks of its words, rare first.
-- reads: words, vocabulary   params: none
select
    words.priority,
    count(*)::integer as size,
    list(vocabulary.word_rank order by vocabulary.word_rank) as word_ranks
from words
inner join vocabulary on words.word = vocabulary.word
group by words.priority
