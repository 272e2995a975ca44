-- The queue's leases, judges' models, the run log, workers. No table is rewritten: constant defaults,
-- new tables.

-- A claim changes none of the indexed columns and finds room on its page, so it is a HOT update: no
-- index grows, and the old version is pruned by the next visitor of the page. What a finished job
-- leaves is one dead row, for an autovacuum that comes early.
alter table flywheel._jobs
  add column priority smallint not null default 0,
  add column run_at timestamptz not null default '-infinity',
  add column attempts smallint not null default 0,
  add column token bigint,
  add column leased_until timestamptz,
  add column worker text,
  add column reserved_tokens integer,
  add column error_class text,
  add column last_error text,
  set (
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.5
  );

comment on column flywheel._jobs.priority is '0 for what has just arrived, 1 for what a sweep or a backfill has enqueued.';
comment on column flywheel._jobs.run_at is 'Not to be claimed before: when it was enqueued, or later after a failure.';
comment on column flywheel._jobs.attempts is 'Claims so far, the present one included.';
comment on column flywheel._jobs.token is 'Fencing token of the latest claim: who does not know it may not complete the job.';
comment on column flywheel._jobs.leased_until is 'When the claim ends by itself; null while nobody holds the job.';
comment on column flywheel._jobs.worker is 'Who claimed it last.';
comment on column flywheel._jobs.reserved_tokens is 'What its latest claim took from its model''s limit on tokens; the difference to what it used is given back.';
comment on column flywheel._jobs.error_class is 'Class of its latest failure: transient, permanent or configuration.';
comment on column flywheel._jobs.last_error is 'Its latest failure.';

-- Where to begin: in front of it is nothing that could be claimed a moment ago. Rows are here only
-- while a claim would have to pass thousands of jobs that are at work, or that are deleted and still
-- seen by a long transaction.
create table flywheel._claim_marks (
  version_id integer not null,
  priority smallint not null,
  run_at timestamptz not null,
  valid_until timestamptz not null,
  constraint _claim_marks_pkey primary key (version_id, priority)
) with (fillfactor = 20);

comment on table flywheel._claim_marks is 'Where claims begin to look, for validators whose first jobs are many and not to be claimed.';
comment on column flywheel._claim_marks.version_id is 'The version of the validator.';
comment on column flywheel._claim_marks.priority is 'Priority of the jobs.';
comment on column flywheel._claim_marks.run_at is 'Jobs before are passed over.';
comment on column flywheel._claim_marks.valid_until is 'When a claim looks from the front again.';

create sequence flywheel._token_seq;

comment on sequence flywheel._token_seq is 'Fencing tokens: one a claim.';

alter table flywheel._validators
  add column priority integer not null default 0;

comment on column flywheel._validators.priority is 'Jobs of a validator of higher priority are claimed first.';

alter table flywheel._validator_versions
  add column template jsonb;

comment on column flywheel._validator_versions.template is 'Judge: the parts of its template, texts and paths in turn; null for a criterion.';

create table flywheel._models (
  model_id integer generated always as identity,
  name text not null,
  provider text not null default 'openai',
  base_url text not null,
  model text not null,
  api_version text,
  api_key_env text,
  parameters jsonb not null default '{}',
  structured_output text not null default 'auto',
  timeout_seconds double precision not null default 60,
  max_concurrency integer,
  requests_per_minute integer,
  tokens_per_minute integer,
  daily_budget_usd numeric,
  description text,
  created_at timestamptz not null default flywheel.now(),
  constraint _models_pkey primary key (model_id),
  constraint _models_name_key unique (name),
  constraint provider_is_known check (provider in ('openai', 'azure')),
  constraint structured_output_is_known check (structured_output in ('auto', 'json_schema', 'json_object', 'none')),
  constraint key_is_named_by_its_prefix check (api_key_env ~ '^FLYWHEEL_KEY_[A-Z0-9_]+$'),
  constraint parameters_is_an_object check (jsonb_typeof(parameters) = 'object'),
  constraint limits_are_positive check (
    timeout_seconds > 0 and max_concurrency > 0 and requests_per_minute > 0 and tokens_per_minute > 0
    and daily_budget_usd >= 0
  )
);

comment on table flywheel._models is 'The models that judge: where they are called and within which limits. No key is stored.';
comment on column flywheel._models.model_id is 'Identity of the model.';
comment on column flywheel._models.name is 'Name by which validators use it.';
comment on column flywheel._models.provider is 'openai (and everything compatible) or azure.';
comment on column flywheel._models.base_url is 'Where it is called, for example https://api.openai.com/v1.';
comment on column flywheel._models.model is 'The endpoint''s name for it.';
comment on column flywheel._models.api_version is 'azure: the version of its interface.';
comment on column flywheel._models.api_key_env is 'Environment variable of the worker that holds the key; null for none.';
comment on column flywheel._models.parameters is 'Sent with every call: temperature, max_tokens, logprobs, ...';
comment on column flywheel._models.structured_output is 'How a JSON reply is asked for: auto, json_schema, json_object or none.';
comment on column flywheel._models.timeout_seconds is 'Seconds a call may take.';
comment on column flywheel._models.max_concurrency is 'Calls one worker makes at once; null for as many as it likes.';
comment on column flywheel._models.requests_per_minute is 'Requests a minute of all workers together; null for no limit.';
comment on column flywheel._models.tokens_per_minute is 'Tokens a minute of all workers together; null for no limit.';
comment on column flywheel._models.daily_budget_usd is 'US dollars a UTC day; null for no limit.';
comment on column flywheel._models.description is 'For people.';
comment on column flywheel._models.created_at is 'When it was created.';

create table flywheel._prices (
  model_id integer not null,
  valid_from timestamptz not null,
  input_price numeric not null,
  cached_input_price numeric,
  output_price numeric not null,
  constraint _prices_pkey primary key (model_id, valid_from),
  constraint _prices_model_id_fkey foreign key (model_id) references flywheel._models on delete cascade,
  constraint prices_are_not_negative check (input_price >= 0 and cached_input_price >= 0 and output_price >= 0)
);

comment on table flywheel._prices is 'What a model costs, in US dollars per million tokens, from when on.';
comment on column flywheel._prices.model_id is 'The model.';
comment on column flywheel._prices.valid_from is 'From when on.';
comment on column flywheel._prices.input_price is 'Per million tokens of input.';
comment on column flywheel._prices.cached_input_price is 'Per million tokens of input that the endpoint had cached; null: as input.';
comment on column flywheel._prices.output_price is 'Per million tokens of output.';

-- Written by workers alone, once a batch, and never by who inserts traces. No foreign key here and in
-- _usage: a verdict must not be lost because its model is being dropped.
create table flywheel._model_states (
  model_id integer not null,
  failures integer not null default 0,
  openings integer not null default 0,
  open_until timestamptz,
  is_probing boolean not null default false,
  last_error text,
  request_room double precision not null default 0,
  token_room double precision not null default 0,
  refilled_at timestamptz not null default '-infinity',
  constraint _model_states_pkey primary key (model_id)
) with (fillfactor = 20);

comment on table flywheel._model_states is 'The circuit breaker of each model and what is left of its rate limits.';
comment on column flywheel._model_states.model_id is 'The model.';
comment on column flywheel._model_states.failures is 'Transient failures since the last success.';
comment on column flywheel._model_states.openings is 'How often the breaker has opened since the last success.';
comment on column flywheel._model_states.open_until is 'No call before; after it, one that probes.';
comment on column flywheel._model_states.is_probing is 'Whether one request is finding out if the model is well again.';
comment on column flywheel._model_states.last_error is 'The latest transient failure.';
comment on column flywheel._model_states.request_room is 'Requests that may be made now.';
comment on column flywheel._model_states.token_room is 'Tokens that may be used now; below zero after an expensive call.';
comment on column flywheel._model_states.refilled_at is 'When the two were last refilled.';

create table flywheel._usage (
  model_id integer not null,
  day date not null,
  slot smallint not null,
  requests bigint not null default 0,
  input_tokens bigint not null default 0,
  cached_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  cost_usd numeric not null default 0,
  constraint _usage_pkey primary key (model_id, day, slot)
) with (fillfactor = 50);

comment on table flywheel._usage is 'What each model has used, by UTC day; a few rows a day, so that workers do not wait for each other.';
comment on column flywheel._usage.model_id is 'The model.';
comment on column flywheel._usage.day is 'UTC day.';
comment on column flywheel._usage.slot is 'Of the session that wrote.';
comment on column flywheel._usage.requests is 'Requests.';
comment on column flywheel._usage.input_tokens is 'Tokens of input, the cached ones included.';
comment on column flywheel._usage.cached_tokens is 'Tokens of input that the endpoint had cached.';
comment on column flywheel._usage.output_tokens is 'Tokens of output.';
comment on column flywheel._usage.cost_usd is 'US dollars, by the prices of the time; 0 where there are none.';

create table flywheel._pauses (
  version_id integer not null,
  error text not null,
  pauses integer not null default 1,
  paused_at timestamptz not null,
  resume_at timestamptz not null,
  probe_token bigint,
  constraint _pauses_pkey primary key (version_id),
  constraint _pauses_version_id_fkey foreign key (version_id)
    references flywheel._validator_versions on delete cascade
);

comment on table flywheel._pauses is 'Queued validators that wait because something is configured wrongly.';
comment on column flywheel._pauses.version_id is 'The version of the validator.';
comment on column flywheel._pauses.error is 'What is wrong.';
comment on column flywheel._pauses.pauses is 'How often it was found wrong in a row.';
comment on column flywheel._pauses.paused_at is 'Since when.';
comment on column flywheel._pauses.resume_at is 'When one job is tried again.';
comment on column flywheel._pauses.probe_token is 'Token of the claim that tries again.';

create table flywheel._approvals (
  version_id integer not null,
  prompt_sha256 text not null,
  approved_at timestamptz not null default flywheel.now(),
  approved_by text not null default session_user,
  comment text,
  constraint _approvals_pkey primary key (version_id),
  constraint _approvals_version_id_fkey foreign key (version_id)
    references flywheel._validator_versions on delete cascade
);

comment on table flywheel._approvals is 'Who has approved the prompt of which judge.';
comment on column flywheel._approvals.version_id is 'The version of the validator.';
comment on column flywheel._approvals.prompt_sha256 is 'Digest of what was approved.';
comment on column flywheel._approvals.approved_at is 'When.';
comment on column flywheel._approvals.approved_by is 'The role that approved.';
comment on column flywheel._approvals.comment is 'What it had to say.';

create table flywheel._prompts (
  prompt_id bigint not null,
  content text not null,
  used_at timestamptz not null,
  constraint _prompts_pkey primary key (prompt_id)
);

comment on table flywheel._prompts is 'System messages of judges, each once: the run log names them.';
comment on column flywheel._prompts.prompt_id is 'Hash of the content.';
comment on column flywheel._prompts.content is 'The message.';
comment on column flywheel._prompts.used_at is 'When a run last used it, to within a day: purge() needs to look at no run.';

create table flywheel._runs (
  run_id bigint generated always as identity,
  trace_id uuid not null,
  span_id uuid not null,
  version_id integer not null,
  revision integer not null,
  attempt smallint not null,
  created_at timestamptz not null,
  worker text,
  outcome text not null,
  error text,
  model_id integer,
  endpoint_model text,
  requests integer,
  input_tokens integer,
  cached_tokens integer,
  output_tokens integer,
  cost_usd numeric,
  latency_ms real,
  prompt_id bigint,
  messages jsonb,
  replies text[],
  constraint _runs_pkey primary key (run_id)
);

create index _runs_trace_id_idx on flywheel._runs (trace_id, span_id, version_id);
create index _runs_created_at_idx on flywheel._runs (created_at);

comment on table flywheel._runs is 'The run log: each attempt at a queued verdict. purge() removes what is beyond its retention.';
comment on column flywheel._runs.run_id is 'Identity of the run.';
comment on column flywheel._runs.trace_id is 'The trace.';
comment on column flywheel._runs.span_id is 'The span, or the nil uuid when the subject is the trace.';
comment on column flywheel._runs.version_id is 'The version of the validator.';
comment on column flywheel._runs.revision is 'The revision of the target.';
comment on column flywheel._runs.attempt is 'Which attempt it was.';
comment on column flywheel._runs.created_at is 'When it ended.';
comment on column flywheel._runs.worker is 'Who did it.';
comment on column flywheel._runs.outcome is 'The verdict''s status, or retry, dead or paused.';
comment on column flywheel._runs.error is 'What went wrong.';
comment on column flywheel._runs.model_id is 'The model that was called.';
comment on column flywheel._runs.endpoint_model is 'The endpoint''s name for it at that time.';
comment on column flywheel._runs.requests is 'Requests that were made.';
comment on column flywheel._runs.input_tokens is 'Tokens of input, the cached ones included.';
comment on column flywheel._runs.cached_tokens is 'Tokens of input that the endpoint had cached.';
comment on column flywheel._runs.output_tokens is 'Tokens of output.';
comment on column flywheel._runs.cost_usd is 'US dollars by the prices of the time; null without a price.';
comment on column flywheel._runs.latency_ms is 'Milliseconds of all requests together.';
comment on column flywheel._runs.prompt_id is 'The system message.';
comment on column flywheel._runs.messages is 'The other messages, as they were sent.';
comment on column flywheel._runs.replies is 'The replies, as they came.';

create table flywheel._workers (
  worker_id bigint generated always as identity,
  name text not null,
  info jsonb not null,
  started_at timestamptz not null,
  last_seen_at timestamptz not null,
  stopped_at timestamptz,
  constraint _workers_pkey primary key (worker_id),
  constraint info_is_an_object check (jsonb_typeof(info) = 'object')
);

comment on table flywheel._workers is 'Workers, and when they were last seen.';
comment on column flywheel._workers.worker_id is 'Identity of the process.';
comment on column flywheel._workers.name is 'Its name; two may share one.';
comment on column flywheel._workers.info is 'What it says of itself: kinds, concurrency, release, host, pid, refused.';
comment on column flywheel._workers.started_at is 'When it started.';
comment on column flywheel._workers.last_seen_at is 'Its latest sign of life.';
comment on column flywheel._workers.stopped_at is 'When it said good-bye.';

-- What a worker says of a job it has finished.
create type flywheel._job_result as (
  trace_id uuid,
  span_id uuid,
  version_id integer,
  token bigint,
  status text,
  score double precision,
  reason text,
  confidence real,
  error text,
  skipped_reason text,
  predicted_label text,
  details jsonb,
  duration_ms real,
  run jsonb
);

comment on type flywheel._job_result is 'What a worker says of a job it has finished.';

-- A validator version whose jobs may be claimed.
create type flywheel._claimable as (
  version_id integer,
  validator_id integer,
  kind text,
  model_id integer,
  priority integer,
  is_paused boolean,
  max_attempts integer,
  votes integer
);

comment on type flywheel._claimable is 'A validator version whose jobs may be claimed now.';

-- What a worker has to do for a job.
create type flywheel._job_request as (
  trace_id uuid,
  span_id uuid,
  attempt smallint,
  is_owed boolean,
  request jsonb,
  skipped_reason text,
  error text
);

comment on type flywheel._job_request is 'What a worker has to do for a job; error if that cannot be said.';

-- They gain a parameter or columns; replacing them would make a second function of the same name.
drop function if exists flywheel._insert_jobs(integer[], text, text, boolean);
drop function if exists flywheel._enqueue_targets(text, integer[], uuid[], uuid[]);
