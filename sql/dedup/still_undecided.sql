-- One row per undecided persona that was neither beaten nor kept.
-- reads: undecided, beaten, winners   params: none
select undecided.place, undecided.set_key, undecided.text_key
from undecided
anti join beaten using (place)
anti join winners using (place)
