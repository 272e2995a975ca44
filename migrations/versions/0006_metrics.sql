-- Metrics. New tables only.

create table flywheel._metrics (
  metric_id integer generated always as identity,
  name text not null,
  query text not null,
  storage text not null,
  refresh_every interval,
  description text,
  column_comments jsonb not null default '{}',
  is_builtin boolean not null default false,
  columns text[] not null default '{}',
  depends_on text[] not null default '{}',
  validators text[] not null default '{}',
  stream_id integer,
  is_built boolean not null default true,
  refusal text,
  refreshed_at timestamptz,
  refresh_ms double precision,
  rows bigint,
  read_ms double precision,
  plain_ms double precision,
  write_ms double precision,
  measured_at timestamptz,
  problem text,
  problem_at timestamptz,
  created_at timestamptz not null default flywheel.now(),
  created_by text not null default session_user,
  constraint _metrics_pkey primary key (metric_id),
  constraint _metrics_name_key unique (name),
  constraint name_is_a_plain_identifier check (name ~ '^[a-z][a-z0-9_]*$' and length(name) <= 56),
  constraint storage_is_known check (storage in ('view', 'materialized', 'incremental')),
  constraint refresh_every_is_positive check (refresh_every > interval '0'),
  constraint column_comments_is_an_object check (jsonb_typeof(column_comments) = 'object')
);

comment on table flywheel._metrics is 'The metrics: a query each, and how its result is kept. The view flywheel.<name> reads it.';
comment on column flywheel._metrics.metric_id is 'Identity of the metric.';
comment on column flywheel._metrics.name is 'Name of the metric and of its view.';
comment on column flywheel._metrics.query is 'The SELECT, as it was given.';
comment on column flywheel._metrics.storage is 'view, materialized or incremental.';
comment on column flywheel._metrics.refresh_every is 'How old the rows of a materialized metric may get.';
comment on column flywheel._metrics.description is 'What it tells, for people.';
comment on column flywheel._metrics.column_comments is 'What each column means, by its name.';
comment on column flywheel._metrics.is_builtin is 'Whether it came with flywheel-db.';
comment on column flywheel._metrics.columns is 'Names of its columns.';
comment on column flywheel._metrics.depends_on is 'Relations and functions its query names.';
comment on column flywheel._metrics.validators is 'Validators its query names in a string.';
comment on column flywheel._metrics.stream_id is 'The stream an incremental metric reads.';
comment on column flywheel._metrics.is_built is 'False while an incremental metric is still read as a plain view, until its stream has been filled.';
comment on column flywheel._metrics.refreshed_at is 'When what is stored was last computed.';
comment on column flywheel._metrics.refresh_ms is 'How long that took.';
comment on column flywheel._metrics.refusal is 'Why it cannot be incremental, if it cannot.';
comment on column flywheel._metrics.rows is 'How many rows it had when it was measured.';
comment on column flywheel._metrics.read_ms is 'How long reading it took, as it is kept.';
comment on column flywheel._metrics.plain_ms is 'How long its query took over the rows themselves.';
comment on column flywheel._metrics.write_ms is 'Incremental: how long appending the deltas of 1,000 rows takes, without storing them.';
comment on column flywheel._metrics.measured_at is 'When these were measured.';
comment on column flywheel._metrics.problem is 'What went wrong the last time it was refreshed or measured.';
comment on column flywheel._metrics.problem_at is 'When.';
comment on column flywheel._metrics.created_at is 'When it was created.';
comment on column flywheel._metrics.created_by is 'Role that created it.';

create table flywheel._metric_streams (
  stream_id integer generated always as identity,
  fact text not null,
  keys jsonb not null,
  condition jsonb,
  measures jsonb not null,
  state text not null,
  writers text[],
  filled_at timestamptz,
  fill_ms double precision,
  folded_at timestamptz,
  constraint _metric_streams_pkey primary key (stream_id),
  constraint fact_is_known check (fact in ('traces', 'spans', 'verdicts')),
  constraint state_is_new_ready_or_retired check (state in ('new', 'ready', 'retired'))
);

comment on table flywheel._metric_streams is 'What is kept current of a fact for incremental metrics: groups and measures. The tables _stream_<id>... hold it.';
comment on column flywheel._metric_streams.stream_id is 'Identity of the stream; its tables are named after it.';
comment on column flywheel._metric_streams.fact is 'traces, spans or verdicts.';
comment on column flywheel._metric_streams.keys is 'What it groups by: expressions as arrays of tokens.';
comment on column flywheel._metric_streams.condition is 'Which rows count, if not all: an expression.';
comment on column flywheel._metric_streams.measures is 'What it keeps of each group, in the order of its columns.';
comment on column flywheel._metric_streams.state is 'new (fed, not filled yet), ready, or retired (not fed any more, not dropped yet).';
comment on column flywheel._metric_streams.writers is 'Transactions that have to end before the stream can be filled or dropped.';
comment on column flywheel._metric_streams.filled_at is 'When it was filled from the rows.';
comment on column flywheel._metric_streams.fill_ms is 'How long that took.';
comment on column flywheel._metric_streams.folded_at is 'When deltas were last folded into it.';

-- It was a view before it was a metric; those who read it keep it.
do $$
begin
  if to_regclass('flywheel.pass_rates') is not null then
    grant create on schema flywheel to flywheel_metric;
    alter view flywheel.pass_rates owner to flywheel_metric;
  end if;
end
$$;
