-- Workers introduce themselves, so that one too old is turned away and people see who is at work.
-- Their times are the database's: a worker's clock is never asked.

create or replace function flywheel._check_worker_info(info jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if jsonb_typeof(info) <> 'object' then
    raise exception 'info is %', left(info::text, 100)
      using errcode = 'LF002', hint = 'Give a JSON object: kinds, concurrency, release, host, pid, refused.';
  end if;
end
$$;

comment on function flywheel._check_worker_info(jsonb) is 'Refuses what a worker says of itself if it is no object.';

create or replace function flywheel.start_worker(name text, protocol integer, info jsonb default '{}')
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_worker_id bigint;
begin
  if protocol is null or protocol < flywheel._queue_protocol() then
    raise exception 'this database needs workers of queue protocol %, and this one speaks %',
      flywheel._queue_protocol(), coalesce(protocol::text, 'none')
      using errcode = 'LF102', hint = 'Upgrade the worker: pip install --upgrade ''flywheel-db[worker]''.';
  end if;
  perform flywheel._check_worker_info(info);
  insert into flywheel._workers (name, info, started_at, last_seen_at)
  values (
    left(coalesce(nullif(btrim(start_worker.name), ''), 'worker'), 200),
    coalesce(start_worker.info, '{}') || jsonb_build_object('protocol', protocol), flywheel.now(), flywheel.now()
  )
  returning worker_id into v_worker_id;
  return v_worker_id;
end
$$;

comment on function flywheel.start_worker(text, integer, jsonb) is
  'A worker introduces itself and gets its number. LF102 if the database needs a newer worker.';

create or replace function flywheel.worker_alive(worker_id bigint, info jsonb default null)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_protocol integer;
begin
  perform flywheel._check_worker_info(info);
  update flywheel._workers as w
  set last_seen_at = flywheel.now(),
    info = w.info || (coalesce(worker_alive.info, '{}') - 'protocol'),
    stopped_at = null
  where w.worker_id = worker_alive.worker_id
  returning (w.info ->> 'protocol')::integer into v_protocol;
  if not found then
    raise exception 'there is no worker %', coalesce(worker_id::text, 'null')
      using errcode = 'LF002', hint = 'It was not seen for so long that it was forgotten: call flywheel.start_worker() again.';
  end if;
  if v_protocol < flywheel._queue_protocol() then
    raise exception 'the database was migrated and needs workers of queue protocol %; this one speaks %',
      flywheel._queue_protocol(), v_protocol
      using errcode = 'LF102', hint = 'Upgrade the worker: pip install --upgrade ''flywheel-db[worker]''.';
  end if;
end
$$;

comment on function flywheel.worker_alive(bigint, jsonb) is
  'A worker''s sign of life, with what has changed about it. LF102 if a migration made it too old.';

create or replace function flywheel.stop_worker(worker_id bigint)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  update flywheel._workers as w
  set last_seen_at = flywheel.now(), stopped_at = flywheel.now()
  where w.worker_id = stop_worker.worker_id;
$$;

comment on function flywheel.stop_worker(bigint) is 'A worker says good-bye.';

create or replace function flywheel.python_validator(version_id integer)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
begin
  select v.* into v_version
  from flywheel._validator_versions as v
  where v.version_id = python_validator.version_id and v.language = 'python';
  if not found then
    raise exception 'there is no Python validator of version id %', coalesce(version_id::text, 'null')
      using errcode = 'LF003', hint = 'Use the version_id of a claimed job of kind python.';
  end if;
  -- The code that a superuser made, and not what a table says.
  if v_version.builtin is null then
    perform flywheel._check_python_code(v_version);
  end if;
  return jsonb_build_object(
    'version_id', v_version.version_id,
    'code', v_version.code_id,
    'body', case when v_version.builtin is null then v_version.body end,
    'spec', flywheel._python_spec(
      array[version_id],
      array(
        select c.name
        from flywheel._subject_columns(v_version.subject) with ordinality as c (name, type, position)
        where c.name = any (v_version.reads) and c.name <> 'params'
        order by c.position
      )
    )::text
  );
end
$$;

comment on function flywheel.python_validator(integer) is
  'What a worker needs to run a queued Python validator: its code, made by a superuser, and the text of its specification.';
