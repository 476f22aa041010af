-- One row per wanted word set: one text that has it.
-- reads: personas.fingerprints, personas.candidates, wanted_sets (a frame)   params: none
select fingerprints.set_key as key, min(candidates.persona) as text
from personas.fingerprints
inner join personas.candidates using (persona_id)
where fingerprints.set_key in (select key from wanted_sets)
group by fingerprints.set_key
