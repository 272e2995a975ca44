-- Python validators and built-in checks. No table is rewritten: constant defaults, new tables.

alter table flywheel._validator_versions
  add column code_id integer,
  add column builtin text,
  add column budget jsonb not null default '{}',
  add constraint budget_is_an_object check (jsonb_typeof(budget) = 'object');

comment on column flywheel._validator_versions.code_id is 'Python: the function _python_<code_id> that holds the code.';
comment on column flywheel._validator_versions.builtin is 'Name of the built-in check it was made from, if any.';
comment on column flywheel._validator_versions.budget is 'Python: time_ms, memory_mb and max_chars, where they differ from the defaults.';

create sequence flywheel._python_code_id_seq as integer;

comment on sequence flywheel._python_code_id_seq is 'Numbers the functions that hold the code of Python validators.';

-- Not unique on purpose, like _dimensions: a writer never waits for another's open transaction.
create table flywheel._breaches (
  version_id integer not null,
  created_at timestamptz not null,
  error text not null,
  opens_breaker boolean not null,
  constraint _breaches_version_id_fkey foreign key (version_id)
    references flywheel._validator_versions on delete cascade
);

create index _breaches_version_id_created_at_idx on flywheel._breaches (version_id, created_at);
create index _breaches_open_idx on flywheel._breaches (version_id) where opens_breaker;

comment on table flywheel._breaches is 'Statements in which a Python validator exceeded its budget, and which of them opened its circuit breaker.';
comment on column flywheel._breaches.version_id is 'The version of the validator.';
comment on column flywheel._breaches.created_at is 'When it happened.';
comment on column flywheel._breaches.error is 'What was exceeded, and where.';
comment on column flywheel._breaches.opens_breaker is 'True for the one that was too many: from then on the version is queued.';

-- What flywheel._run_python() returns for a batch.
create type flywheel._python_results as (
  codes bytea,
  scores double precision[],
  reasons text[],
  errors text[],
  skipped text[],
  labels text[],
  confidences real[],
  details text[],
  breaches integer[],
  breach_errors text[]
);

comment on type flywheel._python_results is 'What a set of Python validators says of a batch of rows: one element per row and validator, row by row; a null array is all nulls.';
comment on column flywheel._python_results.codes is 'A byte each: 1 passed, 0 failed, 2 skipped, 3 error, 255 no verdict.';
comment on column flywheel._python_results.scores is 'Scores.';
comment on column flywheel._python_results.reasons is 'Reasons.';
comment on column flywheel._python_results.errors is 'Messages of errors.';
comment on column flywheel._python_results.skipped is 'Why there was nothing to decide.';
comment on column flywheel._python_results.labels is 'Predicted classes.';
comment on column flywheel._python_results.confidences is 'Confidences, 0 to 1.';
comment on column flywheel._python_results.details is 'Anything else, as JSON.';
comment on column flywheel._python_results.breaches is 'Versions whose budget was exceeded.';
comment on column flywheel._python_results.breach_errors is 'How, one message for each.';

-- They gain a parameter; replacing them would make a second function of the same name.
drop function if exists flywheel.create_validator(
  text, text, text, text, text, text, text, text, text, text, double precision, jsonb, text, text, text,
  integer, text, interval, boolean
);
drop function if exists flywheel.alter_validator(
  text, text, jsonb, text, text, text, text, text, text, text, text, double precision, text, integer, text,
  interval, text[]
);
drop function if exists flywheel._version_filters(flywheel._validator_versions, text);
drop function if exists flywheel._insert_verdicts(text, text);
drop function if exists flywheel._insert_jobs(integer[], text, text);
drop function if exists flywheel._compiled_body(text, integer, integer[], integer[], boolean, text);
drop function if exists flywheel._gate_body(integer[]);
