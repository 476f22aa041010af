-- Which personas of the hub are about a word?
-- One row per persona with one of the words, the best first. marts.search_records searches the records.
-- reads: marts.search_personas
select score, persona, topic, title, url
from marts.search_personas('music opera')
limit 20
