-- One row per undecided persona that repeats one which no undecided persona comes before.
-- reads: undecided   params: none
select distinct undecided.later
from undecided
anti join undecided as preceding on undecided.earlier = preceding.later
