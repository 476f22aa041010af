-- One row per length of the hub's personas, in steps of five words. The last has all longer ones.
-- reads: personas.hub, personas.candidates   params: none
select
    least(candidates.word_count // 5 * 5, 60) as words_from,
    if(words_from < 60, format('{} to {} words', words_from, words_from + 4), '60 words or more')
        as label,
    count(*) as persona_count
from personas.hub
inner join personas.candidates using (shard, persona_id)
group by words_from
order by words_from
