-- A worker inside the database, for whoever has a scheduler and no place for a process. It commits, so
-- it can neither be SECURITY DEFINER nor carry a SET clause; the queue's part is in plpython/work.sql.

create or replace procedure flywheel.work(max_seconds double precision default 50, concurrency integer default 16)
language plpgsql
as $$
declare
  v_end pg_catalog.timestamptz;
  v_status pg_catalog.text;
  v_rest pg_catalog.float8;
begin
  if max_seconds is null or max_seconds operator(pg_catalog.<) 0 or max_seconds operator(pg_catalog.>) 86400 then
    raise exception 'max_seconds is %', coalesce(max_seconds::pg_catalog.text, 'null')
      using errcode = 'LF002', hint = 'Give the number of seconds after which it claims no more, for example 50 for a scheduler that calls it every minute.';
  end if;
  if concurrency is null or concurrency operator(pg_catalog.<) 1 or concurrency operator(pg_catalog.>) 256 then
    raise exception 'concurrency is %', coalesce(concurrency::pg_catalog.text, 'null')
      using errcode = 'LF002', hint = 'Give the number of calls at once, from 1 to 256.';
  end if;
  if pg_catalog.statement_timestamp() operator(pg_catalog.<>) pg_catalog.transaction_timestamp() then
    raise notice 'flywheel.work() commits after each batch: CALL it outside BEGIN, with autocommit on in a driver';
  end if;
  commit;
  if flywheel._has_python() then
    call flywheel._work(max_seconds, concurrency);
    return;
  end if;

  -- The schedules, each in its own transaction. Python does the same between its batches.
  v_end := pg_catalog.clock_timestamp() operator(pg_catalog.+) pg_catalog.make_interval(secs => max_seconds);
  while pg_catalog.clock_timestamp() operator(pg_catalog.<) v_end loop
    select r.status, (r.result operator(pg_catalog.->>) 'rest_seconds')::pg_catalog.float8 into v_status, v_rest
    from flywheel.run_schedules(
      pg_catalog.date_part('epoch', v_end operator(pg_catalog.-) pg_catalog.clock_timestamp()), 1
    ) as r;
    exit when not found;
    commit;
    if v_status operator(pg_catalog.=) 'canceled' then
      raise exception 'canceled'
        using errcode = 'query_canceled';
    end if;
    perform pg_catalog.pg_sleep(v_rest);
    commit;
  end loop;
  if flywheel.has_jobs('{llm,sql}') then
    raise warning 'jobs are queued, and this database has no Python inside to do them'
      using hint = 'Start a worker: flywheel-db worker.';
  end if;
end
$$;

comment on procedure flywheel.work(double precision, integer) is
  'Drains the queue from inside the database: claims jobs of judges and queued SQL validators, and texts for embedders of endpoints, calls the models in threads, records, and commits after each batch; no transaction is held during a call. Between batches it runs the schedules that are due. Returns when nothing is left, or after max_seconds. Keys come from the server''s environment (FLYWHEEL_KEY_...), hosts from the superuser''s setting flywheel.allowed_hosts. Without Python inside the database it runs the schedules only; queued Python validators are always left to flywheel-db worker.';

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
