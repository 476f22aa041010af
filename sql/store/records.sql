-- One row per synthetic record that is kept.
-- reads: synthetic.accepted, synthetic.duplicates   params: none
select accepted.*
from synthetic.accepted
anti join synthetic.duplicates using (domain, record_id)
