-- The layer of similar words is called as its threshold is: jaccard, no longer surface.
update personas.pairs set layer = 'jaccard' where layer = 'surface';
update personas.duplicates set layer = 'jaccard' where layer = 'surface';
update synthetic.duplicates set layer = 'jaccard' where layer = 'surface';
alter table personas.sweep rename column surface to jaccard;
-- So is the method of a selection.
update runs.selected set rules = replace(
    replace(rules, '"farthest":true', '"method":"farthest"'), '"farthest":false', '"method":"first"'
);
