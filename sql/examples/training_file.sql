-- How do I get a training file: the kept records of a domain as chat messages?
-- One row per kept record of instruction. "sql --example training_file --jsonl > train.jsonl" writes the file.
-- Other domains have other fields. reads: synthetic.instruction, synthetic.records
select
    [
        {'role': 'user', 'content': instruction.instruction},
        {'role': 'assistant', 'content': instruction.response}
    ] as messages
from synthetic.instruction
semi join synthetic.records
    on instruction.record_id = records.record_id and records.domain = 'instruction'
order by instruction.record_id
