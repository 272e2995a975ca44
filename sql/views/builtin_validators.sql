create or replace view flywheel.builtin_validators as
select b.name, b.sides, b.language, b.cost, b.params, b.description
from flywheel._builtins() as b;

comment on view flywheel.builtin_validators is 'The built-in checks. flywheel.enable_builtin() switches one on; by default all are off.';
comment on column flywheel.builtin_validators.name is 'Name, for enable_builtin().';
comment on column flywheel.builtin_validators.sides is 'What it can look at, output or input; the first is the default of the param side.';
comment on column flywheel.builtin_validators.language is 'sql or python.';
comment on column flywheel.builtin_validators.cost is 'low: up to 10 microseconds per KB of text; medium: up to 300; high: more, or a millisecond a text.';
comment on column flywheel.builtin_validators.params is 'Params with their defaults. Where the default is null the param must be given, is not checked, or stands for the check''s own list: the description tells.';
comment on column flywheel.builtin_validators.description is 'What a row must satisfy.';
