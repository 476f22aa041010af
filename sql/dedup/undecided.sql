-- One row per pair that a round leaves open: neither persona was beaten.
-- reads: undecided, beaten   params: none
select
    undecided.earlier,
    undecided.later
from undecided
anti join beaten as beaten_later on undecided.later = beaten_later.later
anti join beaten as beaten_earlier on undecided.earlier = beaten_earlier.later
