-- A worker inside the database, for whoever has a scheduler and no place for a process. It commits, so
-- it can neither be SECURITY DEFINER nor carry a SET clause; the work itself is in plpython/work.sql.

create or replace procedure flywheel.work(max_seconds double precision default 50, concurrency integer default 16)
language plpgsql
as $$
begin
  if max_seconds is null or max_seconds operator(pg_catalog.<) 0 or max_seconds operator(pg_catalog.>) 86400 then
    raise exception 'max_seconds is %', coalesce(max_seconds::pg_catalog.text, 'null')
      using errcode = 'LF002', hint = 'Give the number of seconds after which it claims no more, for example 50 for a scheduler that calls it every minute.';
  end if;
  if concurrency is null or concurrency operator(pg_catalog.<) 1 or concurrency operator(pg_catalog.>) 256 then
    raise exception 'concurrency is %', coalesce(concurrency::pg_catalog.text, 'null')
      using errcode = 'LF002', hint = 'Give the number of calls at once, from 1 to 256.';
  end if;
  if not flywheel._has_python() then
    raise exception 'this database has no Python inside'
      using errcode = 'LF103', hint = 'Start a worker instead: flywheel-db worker.';
  end if;
  raise notice 'flywheel.work() commits after each batch: CALL it outside BEGIN, with autocommit on in a driver';
  commit;
  call flywheel._work(max_seconds, concurrency);
end
$$;

comment on procedure flywheel.work(double precision, integer) is
  'Drains the queue from inside the database: claims jobs of judges and queued SQL validators, calls the models in threads, records, and commits after each batch; no transaction is held during a call. Returns when nothing is left, or after max_seconds. Keys come from the server''s environment (FLYWHEEL_KEY_...), hosts from the superuser''s setting flywheel.allowed_hosts. Needs Python inside the database; queued Python validators are left to flywheel-db worker.';

create or replace function flywheel.has_jobs(kinds text[] default '{llm,python,sql}', models text[] default null)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select exists (select from flywheel._claimable_versions(kinds, models, flywheel.now()));
$$;

comment on function flywheel.has_jobs(text[], text[]) is
  'Whether there are jobs that a worker of these kinds and models may claim, now or after a wait for a limit or a failure.';
