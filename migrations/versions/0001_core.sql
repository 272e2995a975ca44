-- 0.1.0: the tables of the core. Frozen once released; what can be replaced lives under sql/.

-- The generation of the validator set as a constant, so that it costs nothing as a column default.
-- Compiling replaces it (sql/internal/compiler.sql). STABLE and not IMMUTABLE: the planner records
-- that a plan depends on a function it inlined, but not on one it evaluated.
create function flywheel._generation()
returns integer
language sql
stable
parallel safe
begin atomic
  select 0;
end;

comment on function flywheel._generation() is
  'The current generation of the validator set. Replaced each time the set is compiled.';

create table flywheel.traces (
  trace_id uuid not null default flywheel.uuidv7(),
  pipeline text not null default 'default',
  variant text,
  environment text,
  release text,
  session_id text,
  user_id text,
  input text,
  output text,
  status text not null default 'ok',
  started_at timestamptz not null default flywheel.now(),
  ended_at timestamptz,
  attributes jsonb not null default '{}',
  received_at timestamptz not null default flywheel.now(),
  revision integer not null default 1,
  generation integer not null default flywheel._generation(),
  revised_at timestamptz,
  constraint traces_pkey primary key (trace_id),
  constraint pipeline_is_not_empty check (pipeline <> ''),
  constraint status_is_ok_error_or_blocked check (status in ('ok', 'error', 'blocked')),
  constraint ended_not_before_started check (ended_at >= started_at),
  constraint attributes_is_an_object check (jsonb_typeof(attributes) = 'object')
);

-- Recent rows first: test_validator, backfill, export.
create index traces_received_at_idx on flywheel.traces (received_at);

comment on table flywheel.traces is
  'One row per run of an application''s LLM pipeline. INSERT and UPDATE it; the database validates each row before the statement returns.';
comment on column flywheel.traces.trace_id is 'Time-ordered UUIDv7 unless given. A 16-byte OpenTelemetry trace id is this uuid.';
comment on column flywheel.traces.pipeline is 'The application or feature the trace belongs to. Validators and metrics filter and group by it.';
comment on column flywheel.traces.variant is 'Arm of an A/B test.';
comment on column flywheel.traces.environment is 'Deployment environment: production, staging, ...';
comment on column flywheel.traces.release is 'Version of the application or of its prompt.';
comment on column flywheel.traces.session_id is 'Conversation the trace belongs to.';
comment on column flywheel.traces.user_id is 'End user the trace was made for.';
comment on column flywheel.traces.input is 'What the application was asked.';
comment on column flywheel.traces.output is 'What it answered. May be filled in later by an UPDATE, which validates again.';
comment on column flywheel.traces.status is 'ok, error (the application failed) or blocked (refused before the LLM was called).';
comment on column flywheel.traces.started_at is 'When the run started. Its UTC day is the day metrics group by.';
comment on column flywheel.traces.ended_at is 'When the run ended.';
comment on column flywheel.traces.attributes is 'Anything else, as a JSON object. Validators can read it.';
comment on column flywheel.traces.received_at is 'When the database received the row. Set by the database.';
comment on column flywheel.traces.revision is 'Starts at 1; an UPDATE of pipeline, input, output or attributes makes a new one and validates again. Set by the database.';
comment on column flywheel.traces.generation is 'Generation of the validator set that validated the row. Set by the database.';
comment on column flywheel.traces.revised_at is 'Start of the statement that made the latest revision; null for the first. Set by the database.';

create table flywheel.spans (
  trace_id uuid not null,
  span_id uuid not null default flywheel.uuidv7(),
  parent_span_id uuid,
  node text,
  kind text,
  input text,
  output text,
  status text not null default 'ok',
  started_at timestamptz not null default flywheel.now(),
  ended_at timestamptz,
  model text,
  input_tokens integer,
  output_tokens integer,
  cost_usd numeric,
  attributes jsonb not null default '{}',
  received_at timestamptz not null default flywheel.now(),
  revision integer not null default 1,
  generation integer not null default flywheel._generation(),
  revised_at timestamptz,
  constraint spans_pkey primary key (trace_id, span_id),
  -- The nil uuid stands for "the trace itself" wherever a target is named.
  constraint span_id_is_not_nil check (span_id <> '00000000-0000-0000-0000-000000000000'),
  constraint kind_is_known check (
    kind in ('classifier', 'writer', 'codegen', 'retriever', 'tool', 'chain', 'agent', 'other')
  ),
  constraint status_is_ok_error_or_blocked check (status in ('ok', 'error', 'blocked')),
  constraint ended_not_before_started check (ended_at >= started_at),
  constraint tokens_are_not_negative check (input_tokens >= 0 and output_tokens >= 0),
  constraint cost_is_not_negative check (cost_usd >= 0),
  constraint attributes_is_an_object check (jsonb_typeof(attributes) = 'object')
);

create index spans_received_at_idx on flywheel.spans (received_at);

comment on table flywheel.spans is
  'One row per step inside a trace: an LLM call, a tool call, a retrieval. Optional: a trace without spans is complete. A span may arrive before its trace.';
comment on column flywheel.spans.trace_id is 'The trace the span belongs to. It may not have arrived yet.';
comment on column flywheel.spans.span_id is 'Time-ordered UUIDv7 unless given. An 8-byte OpenTelemetry span id is a uuid whose upper 8 bytes are zero.';
comment on column flywheel.spans.parent_span_id is 'The span that caused this one; null at the root.';
comment on column flywheel.spans.node is 'Name of the step in the pipeline''s graph.';
comment on column flywheel.spans.kind is 'classifier, writer, codegen, retriever, tool, chain, agent or other.';
comment on column flywheel.spans.input is 'What the step was given.';
comment on column flywheel.spans.output is 'What it returned.';
comment on column flywheel.spans.status is 'ok, error or blocked.';
comment on column flywheel.spans.started_at is 'When the step started.';
comment on column flywheel.spans.ended_at is 'When the step ended.';
comment on column flywheel.spans.model is 'The model that was called.';
comment on column flywheel.spans.input_tokens is 'Tokens sent to the model.';
comment on column flywheel.spans.output_tokens is 'Tokens the model returned.';
comment on column flywheel.spans.cost_usd is 'Cost of the step in US dollars.';
comment on column flywheel.spans.attributes is 'Anything else, as a JSON object. Validators can read it.';
comment on column flywheel.spans.received_at is 'When the database received the row. Set by the database.';
comment on column flywheel.spans.revision is 'Starts at 1; an UPDATE of node, kind, input, output or attributes makes a new one and validates again. Set by the database.';
comment on column flywheel.spans.generation is 'Generation of the validator set that validated the row. Set by the database.';
comment on column flywheel.spans.revised_at is 'Start of the statement that made the latest revision; null for the first. Set by the database.';

-- One row, updated before the catalog is read: two admins can then neither overlap nor, under
-- REPEATABLE READ, compile a set that misses what the other has just committed.
create table flywheel._validator_set (
  only_row boolean not null default true,
  generation integer not null,
  constraint _validator_set_pkey primary key (only_row),
  constraint there_is_one_row check (only_row)
);

insert into flywheel._validator_set (generation) values (0);

comment on table flywheel._validator_set is 'The current generation of the validator set: one row.';
comment on column flywheel._validator_set.only_row is 'Always true.';
comment on column flywheel._validator_set.generation is 'Counts every change of the set of enabled validators.';

create table flywheel._validators (
  validator_id integer generated always as identity,
  name text not null,
  created_at timestamptz not null default flywheel.now(),
  dropped_at timestamptz,
  constraint _validators_pkey primary key (validator_id),
  constraint _validators_name_key unique (name),
  constraint name_is_not_blank check (btrim(name) <> ''),
  constraint name_has_at_most_200_characters check (length(name) <= 200)
);

comment on table flywheel._validators is 'The name and identity of each validator. What it does is in its versions.';
comment on column flywheel._validators.validator_id is 'Identity of the validator over all its versions.';
comment on column flywheel._validators.name is 'Unique name.';
comment on column flywheel._validators.created_at is 'When the validator was first created.';
comment on column flywheel._validators.dropped_at is 'When it was dropped, if it kept verdicts; creating the name again continues its versions.';

create table flywheel._validator_versions (
  version_id integer generated always as identity,
  validator_id integer not null,
  version integer not null,
  language text not null,
  subject text not null,
  mode text not null,
  body text not null,
  params jsonb not null default '{}',
  score text,
  reason text,
  pipeline text,
  node text,
  kind text,
  sample_rate double precision not null default 1,
  on_fail text not null default 'record',
  on_error text not null default 'allow',
  model text,
  few_shot_k integer,
  description text,
  review_every interval,
  reads text[] not null default '{}',
  is_total boolean not null default false,
  active_generations int4multirange not null default '{}',
  created_at timestamptz not null default flywheel.now(),
  created_by text not null default session_user,
  constraint _validator_versions_pkey primary key (version_id),
  constraint _validator_versions_validator_id_version_key unique (validator_id, version),
  constraint _validator_versions_validator_id_fkey foreign key (validator_id)
    references flywheel._validators on delete cascade,
  constraint language_is_known check (language in ('sql', 'python', 'llm', 'knn')),
  constraint subject_is_known check (subject in ('trace', 'span', 'walk', 'subgraph')),
  constraint mode_is_inline_or_queued check (mode in ('inline', 'queued')),
  constraint params_is_an_object check (jsonb_typeof(params) = 'object'),
  constraint sample_rate_is_a_share check (sample_rate >= 0 and sample_rate <= 1),
  constraint on_fail_is_record_or_reject check (on_fail in ('record', 'reject')),
  constraint on_error_is_allow_or_reject check (on_error in ('allow', 'reject')),
  constraint few_shot_k_is_not_negative check (few_shot_k >= 0)
);

comment on table flywheel._validator_versions is 'What a validator does, one immutable row per version. Only active_generations changes.';
comment on column flywheel._validator_versions.version_id is 'Identity of the version; verdicts and jobs name it.';
comment on column flywheel._validator_versions.validator_id is 'The validator.';
comment on column flywheel._validator_versions.version is 'Counts from 1 within the validator.';
comment on column flywheel._validator_versions.language is 'sql, python, llm or knn.';
comment on column flywheel._validator_versions.subject is 'What is judged: a trace, a span, a walk or a subgraph.';
comment on column flywheel._validator_versions.mode is 'inline (inside the INSERT) or queued.';
comment on column flywheel._validator_versions.body is 'The check in its language.';
comment on column flywheel._validator_versions.params is 'Constants the body can read as params.';
comment on column flywheel._validator_versions.score is 'SQL expression of the score, if any.';
comment on column flywheel._validator_versions.reason is 'SQL expression of the reason, if any.';
comment on column flywheel._validator_versions.pipeline is 'Only rows of this pipeline; null for all.';
comment on column flywheel._validator_versions.node is 'Only spans of this node; null for all.';
comment on column flywheel._validator_versions.kind is 'Only spans of this kind; null for all.';
comment on column flywheel._validator_versions.sample_rate is 'Share of traces judged, chosen by a hash of the trace id.';
comment on column flywheel._validator_versions.on_fail is 'record the verdict, or reject the statement.';
comment on column flywheel._validator_versions.on_error is 'allow the row, or reject the statement, when the check itself fails.';
comment on column flywheel._validator_versions.model is 'Name of the model that judges.';
comment on column flywheel._validator_versions.few_shot_k is 'How many labelled examples the judge is shown.';
comment on column flywheel._validator_versions.description is 'What a failing verdict means, for people.';
comment on column flywheel._validator_versions.review_every is 'How often a person should look at the validator again.';
comment on column flywheel._validator_versions.reads is 'Columns the check reads, found in its parse tree.';
comment on column flywheel._validator_versions.is_total is 'True if the check cannot raise and is compiled straight into the statement.';
comment on column flywheel._validator_versions.active_generations is 'The generations in which the version was enabled. A row expects its verdict if its own generation is among them.';
comment on column flywheel._validator_versions.created_at is 'When the version was made.';
comment on column flywheel._validator_versions.created_by is 'The role that made it.';

-- The key is a hash of the values and not a sequence: no lookup on the way in, and nothing to
-- coordinate between servers. It is not unique on purpose. Whoever cannot see the row writes it, so
-- no writer ever waits for another's open transaction, and two cannot deadlock over the first rows
-- of a day. Copies are equal; readers use the view _dimension_values, and sweep() removes them.
create table flywheel._dimensions (
  dimension_id bigint not null,
  pipeline text,
  variant text,
  environment text,
  release text,
  node text,
  day date not null
);

create index _dimensions_dimension_id_idx on flywheel._dimensions (dimension_id);

comment on table flywheel._dimensions is 'Each combination of values that metrics group by, written when it first appears; a few equal copies at most.';
comment on column flywheel._dimensions.dimension_id is 'Hash of the other columns.';
comment on column flywheel._dimensions.pipeline is 'Pipeline of the trace; null for a span whose trace had not arrived.';
comment on column flywheel._dimensions.variant is 'Variant of the trace.';
comment on column flywheel._dimensions.environment is 'Environment of the trace.';
comment on column flywheel._dimensions.release is 'Release of the trace.';
comment on column flywheel._dimensions.node is 'Node of the span; null for a trace.';
comment on column flywheel._dimensions.day is 'UTC day on which the trace or span started.';

-- A domain, because PostgreSQL reads a table's CHECK anew in every statement that writes to it: here
-- that cost 5 microseconds of every single-row INSERT into traces.
create domain flywheel._verdict_status as text
  constraint status_is_known check (value in ('passed', 'failed', 'error', 'skipped'));

comment on domain flywheel._verdict_status is 'passed, failed, error or skipped.';

-- No foreign key: each would be a row-level trigger on the hottest table. The statement triggers
-- on traces and spans keep it in step, and sweep() repairs what was written around them.
create table flywheel._verdicts (
  trace_id uuid not null,
  span_id uuid not null,
  dimension_id bigint not null,
  created_at timestamptz not null,
  version_id integer not null,
  revision integer not null,
  status flywheel._verdict_status not null,
  score double precision,
  duration_ms real,
  confidence real,
  reason text,
  error text,
  skipped_reason text,
  predicted_label text,
  details jsonb,
  constraint _verdicts_pkey primary key (trace_id, span_id, version_id)
);

-- Failures are what people look for, and few: an index of their own costs passing rows nothing.
create index _verdicts_failed_idx on flywheel._verdicts (created_at)
  where status = 'failed';

comment on table flywheel._verdicts is 'One row per (target, validator version): what the validator found about the target''s current revision.';
comment on column flywheel._verdicts.trace_id is 'The trace.';
comment on column flywheel._verdicts.span_id is 'The span, or the nil uuid when the subject is the trace.';
comment on column flywheel._verdicts.dimension_id is 'What metrics group by, as it was when the verdict was written.';
comment on column flywheel._verdicts.created_at is 'When the verdict was written.';
comment on column flywheel._verdicts.version_id is 'The version of the validator.';
comment on column flywheel._verdicts.revision is 'The revision of the target it is about.';
comment on column flywheel._verdicts.status is 'passed, failed, error or skipped.';
comment on column flywheel._verdicts.score is 'Optional number behind the verdict.';
comment on column flywheel._verdicts.duration_ms is 'How long the check took, where it is measured one by one.';
comment on column flywheel._verdicts.confidence is 'Confidence in the verdict, 0 to 1.';
comment on column flywheel._verdicts.reason is 'Why, in words.';
comment on column flywheel._verdicts.error is 'What went wrong inside the validator.';
comment on column flywheel._verdicts.skipped_reason is 'Why there was nothing to decide.';
comment on column flywheel._verdicts.predicted_label is 'Class the validator predicted.';
comment on column flywheel._verdicts.details is 'Anything else the validator returned.';

create table flywheel._jobs (
  trace_id uuid not null,
  span_id uuid not null,
  version_id integer not null,
  revision integer not null,
  state text not null default 'pending',
  created_at timestamptz not null,
  constraint _jobs_pkey primary key (trace_id, span_id, version_id),
  constraint state_is_pending_or_dead check (state in ('pending', 'dead'))
);

comment on table flywheel._jobs is 'Verdicts that are owed: one row per (target, queued validator version), removed when the verdict is written.';
comment on column flywheel._jobs.trace_id is 'The trace.';
comment on column flywheel._jobs.span_id is 'The span, or the nil uuid when the subject is the trace.';
comment on column flywheel._jobs.version_id is 'The version of the validator that owes the verdict.';
comment on column flywheel._jobs.revision is 'The revision of the target it is about.';
comment on column flywheel._jobs.state is 'pending or dead.';
comment on column flywheel._jobs.created_at is 'When the job was enqueued.';

create table flywheel._imports (
  source text not null,
  sha256 text not null,
  lines_done bigint not null,
  rows_done bigint not null,
  updated_at timestamptz not null,
  constraint _imports_pkey primary key (source)
);

comment on table flywheel._imports is 'How far each resumable import has come, written in the transaction of its rows.';
comment on column flywheel._imports.source is 'Path or name of the file.';
comment on column flywheel._imports.sha256 is 'Digest of its content: a changed file does not resume.';
comment on column flywheel._imports.lines_done is 'Lines read and committed.';
comment on column flywheel._imports.rows_done is 'Rows inserted and committed.';
comment on column flywheel._imports.updated_at is 'When the latest batch was committed.';

-- What one statement's evaluation of one validator on one row comes to.
create type flywheel._outcome as (
  code smallint,
  score double precision,
  reason text,
  error text
);

comment on type flywheel._outcome is 'Result of one check: code 1 passed, 0 failed, 2 skipped, 3 error; null when the validator does not apply.';
comment on column flywheel._outcome.code is '1 passed, 0 failed, 2 skipped, 3 error; null when the validator does not apply to the row.';
comment on column flywheel._outcome.score is 'Optional score.';
comment on column flywheel._outcome.reason is 'Optional reason.';
comment on column flywheel._outcome.error is 'Message of the error, if the check raised one.';

create table flywheel._release (
  file text not null,
  sha256 text not null,
  applied_at timestamptz not null default now(),
  constraint _release_pkey primary key (file)
);

comment on table flywheel._release is 'The replaceable SQL files of the installed release: migrate re-applies those whose digest changed.';
comment on column flywheel._release.file is 'Path under sql/.';
comment on column flywheel._release.sha256 is 'Digest of its content when it was applied.';
comment on column flywheel._release.applied_at is 'When it was applied.';

create table flywheel._online_steps (
  step text not null,
  done_at timestamptz not null default now(),
  constraint _online_steps_pkey primary key (step)
);

comment on table flywheel._online_steps is 'Steps of migrations that cannot run in a transaction and are done.';
comment on column flywheel._online_steps.step is 'Revision and name of the step.';
comment on column flywheel._online_steps.done_at is 'When it was done.';
