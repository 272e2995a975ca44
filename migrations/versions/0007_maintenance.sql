-- Maintenance. New tables only.

-- A handful of rows, each updated whenever it has run.
create table flywheel._schedules (
  name text not null,
  task text not null,
  every interval,
  cron text,
  is_enabled boolean not null default true,
  next_run_at timestamptz not null,
  last_run_at timestamptz,
  last_seconds double precision,
  last_result jsonb,
  last_error text,
  runs bigint not null default 0,
  failures integer not null default 0,
  constraint _schedules_pkey primary key (name),
  constraint every_or_cron_says_when check (num_nonnulls(every, cron) = 1)
) with (fillfactor = 50);

comment on table flywheel._schedules is 'When the built-in tasks run, and what came of it.';
comment on column flywheel._schedules.name is 'Name of the schedule.';
comment on column flywheel._schedules.task is 'The task of _tasks() that it runs.';
comment on column flywheel._schedules.every is 'The time from one run to the next; null if cron says when.';
comment on column flywheel._schedules.cron is 'Cron expression, in UTC; null if every says when.';
comment on column flywheel._schedules.is_enabled is 'Whether it runs.';
comment on column flywheel._schedules.next_run_at is 'When it is due.';
comment on column flywheel._schedules.last_run_at is 'When it last ran.';
comment on column flywheel._schedules.last_seconds is 'How long that took.';
comment on column flywheel._schedules.last_result is 'What the task returned; null if it failed.';
comment on column flywheel._schedules.last_error is 'Why the last run failed; null if it did not.';
comment on column flywheel._schedules.runs is 'How often it has run.';
comment on column flywheel._schedules.failures is 'Failures since the last success.';

-- A row a pipeline, and what the removal of expired traces has to remember.
create table flywheel._retention (
  pipeline text,
  keep interval not null,
  keep_labelled boolean not null,
  keep_rollups boolean not null,
  looked_to timestamptz not null default '-infinity',
  spans_looked_to timestamptz not null default '-infinity',
  restarted_at timestamptz not null default '-infinity',
  removed bigint not null default 0,
  last_run_at timestamptz,
  created_at timestamptz not null default flywheel.now(),
  created_by text not null default session_user,
  constraint _retention_pipeline_key unique nulls not distinct (pipeline),
  constraint keep_is_positive check (keep > interval '0')
) with (fillfactor = 50);

comment on table flywheel._retention is 'How long traces are kept.';
comment on column flywheel._retention.pipeline is 'The pipeline; null for all that have no row of their own.';
comment on column flywheel._retention.keep is 'How long, from when they were received.';
comment on column flywheel._retention.keep_labelled is 'Whether labelled traces are kept for ever.';
comment on column flywheel._retention.keep_rollups is 'Whether incremental metrics go on counting what is removed.';
comment on column flywheel._retention.looked_to is 'What was received before is gone or kept for a reason.';
comment on column flywheel._retention.spans_looked_to is 'The same for spans whose trace never arrived, by the rule for all others.';
comment on column flywheel._retention.restarted_at is 'When it was last looked at from the beginning.';
comment on column flywheel._retention.removed is 'How many traces have been removed.';
comment on column flywheel._retention.last_run_at is 'When expired traces were last looked for.';
comment on column flywheel._retention.created_at is 'When it was set first.';
comment on column flywheel._retention.created_by is 'The role that set it last.';

-- What every database needs. A schedule whose task this release does not have does not run.
insert into flywheel._schedules (name, task, every, cron, next_run_at)
values
  ('fold metrics', 'fold metrics', interval '10 seconds', null, flywheel.now()),
  ('refresh metrics', 'refresh metrics', interval '10 seconds', null, flywheel.now()),
  ('embed texts', 'embed texts', interval '5 seconds', null, flywheel.now()),
  ('index vectors', 'index vectors', interval '30 seconds', null, flywheel.now()),
  ('retention', 'retention', interval '5 minutes', null, flywheel.now()),
  ('purge runs', 'purge runs', interval '1 hour', null, flywheel.now()),
  ('sweep', 'sweep', null, '20 3 * * *', flywheel.now() + interval '1 day');
