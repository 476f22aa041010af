-- One row per undecided row of the table that was neither dominated nor kept.
-- reads: undecided, dominated, kept_now   params: none
select undecided.place, undecided.set_key, undecided.text_key
from undecided
anti join dominated using (place)
anti join kept_now using (place)
