-- What schedules can run: functions of this schema and nothing else, so that a schedule lends nobody
-- the owner's rights. To add a task, add a row. Its function takes the seconds it may use, does a
-- bounded piece of work, and returns what it did, which people see in flywheel.schedules. If what it
-- returns has an is_more that is true, it is called again, at once or after its rest_seconds, in a
-- transaction of its own. Who runs it waits that long, or does something else meanwhile.

create or replace function flywheel._tasks()
returns table (task text, function text, description text)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select t.task, t.function, t.description
  from (values
    ('fold metrics', 'fold_metrics', 'Moves what was written since into what incremental metrics keep.'),
    ('refresh metrics', 'refresh_metrics', 'Refreshes the materialized metrics that are due.'),
    ('embed texts', 'embed_texts', 'Makes the vectors of what has arrived.'),
    ('index vectors', 'index_vectors', 'Builds and merges the indexes of the vectors.'),
    ('retention', '_task_retention', 'Removes traces that have expired (view retention).'),
    ('sweep', '_task_sweep', 'Writes verdicts and jobs that are missing, and removes those whose row is gone.'),
    ('purge runs', '_task_purge_runs', 'Removes what is beyond its retention from the run log.')
  ) as t (task, function, description)
  where to_regprocedure(format('flywheel.%I(double precision)', t.function)) is not null;
$$;

comment on function flywheel._tasks() is 'The tasks that schedules can run.';

create or replace function flywheel._task_sweep(max_seconds double precision, out filled bigint, out is_more boolean)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_batch constant integer := 5000;
begin
  select coalesce(sum(s.filled), 0) into filled from flywheel.sweep(v_batch) as s;
  is_more := filled >= v_batch;
end
$$;

comment on function flywheel._task_sweep(double precision) is 'The task sweep: up to 5,000 verdicts and jobs.';

create or replace function flywheel._task_purge_runs(
  max_seconds double precision, out runs bigint, out prompts bigint, out workers bigint, out is_more boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_batch constant integer := 50000;
begin
  select
    max(p.deleted) filter (where p.what = 'runs'), max(p.deleted) filter (where p.what = 'prompts'),
    max(p.deleted) filter (where p.what = 'workers'), max(p.deleted) >= v_batch
  into runs, prompts, workers, is_more
  from flywheel.purge(v_batch) as p;
end
$$;

comment on function flywheel._task_purge_runs(double precision) is 'The task purge runs: up to 50,000 runs.';
