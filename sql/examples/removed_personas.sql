-- Which personas were removed as duplicates, who are their keepers, and how similar are they?
-- One row per removed persona, the most similar first. reads: personas.duplicates, personas.candidates
select
    gone.persona,
    kept.persona as keeper,
    duplicates.layer,
    round(duplicates.similarity, 3) as similarity,
    duplicates.threshold,
    gone.shard,
    kept.shard as keeper_shard,
    gone.persona_id
from personas.duplicates
left join personas.candidates as gone
    on duplicates.persona_id = gone.persona_id and duplicates.shard = gone.shard
left join personas.candidates as kept on duplicates.kept_id = kept.persona_id
order by duplicates.similarity desc, gone.persona_id
