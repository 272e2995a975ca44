-- The life of a stream: new -> ready -> retired -> gone.
--
-- Changes are emitted from the moment the emitting functions have been replaced, which blocks nobody.
-- But transactions that had begun before may still run the old functions, and commit later. So a
-- stream is filled only when all transactions that had written to the fact by then have ended; until
-- then its metrics read their plain query, which is as exact. Filling is one statement, hence one
-- snapshot: it counts the rows it sees and removes the deltas it sees. A stream that is no longer
-- read is dropped when nobody can be writing to it any more.

-- Where no one has to wait long, it is done at once: the lock waits for the writers and keeps new ones
-- out. Whoever waits for something while he keeps writers out gives up before somebody looks for
-- deadlocks (deadlock_timeout), for that could end a writer; and who keeps out the writers of one fact
-- does not wait for those of another. The callers are blocks: what fails lets go of the lock. For this
-- one it waits a little longer than that: an autovacuum in its way is sent home by the same look.
create or replace function flywheel._lock_fact(fact text, max_rows double precision)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '1200ms'
as $$
declare
  v_base constant text := flywheel._fact_table(_lock_fact.fact);
  v_is_large boolean;
begin
  -- Counted, not estimated: statistics may be missing. An index is not read beyond the limit.
  execute format('select exists (select from flywheel.%I offset %s limit 1)', v_base, max_rows::bigint) into v_is_large;
  if v_is_large then
    return false;
  end if;
  execute format(
    'lock table flywheel.%I in share row exclusive mode%s', v_base,
    case when exists (
      select
      from pg_locks as l
      join flywheel._facts() as f on l.relation = to_regclass(format('flywheel.%I', f.base)) and f.base <> v_base
      where l.locktype = 'relation' and l.pid = pg_backend_pid() and l.mode = 'ShareRowExclusiveLock' and l.granted
    ) then ' nowait' end
  );
  return true;
end
$$;

comment on function flywheel._lock_fact(text, double precision) is
  'Keeps writers out of a small table until the transaction ends, or the block fails that it is called in; false if it is not small.';

create or replace function flywheel._writers_of(fact text)
returns text[]
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce(array_agg(distinct l.virtualtransaction), '{}')
  from pg_locks as l
  where l.locktype = 'relation'
    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    and l.relation = to_regclass(format('flywheel.%I', flywheel._fact_table(_writers_of.fact)))
    and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    and l.granted
    and l.pid is distinct from pg_backend_pid();
$$;

comment on function flywheel._writers_of(text) is 'The transactions that hold a lock for writing on the table of a fact.';

create or replace function flywheel._stream_lock(stream_id integer)
returns bigint
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select hashtextextended('flywheel._metric_streams', stream_id);
$$;

comment on function flywheel._stream_lock(integer) is 'The advisory lock under which a stream is filled, folded and dropped.';

create or replace function flywheel._stream_tables(stream_id integer)
returns table (oid oid, name text)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select c.oid, c.relname::text
  from pg_class as c
  where c.relnamespace = 'flywheel'::regnamespace and c.relkind = 'r'
    and c.relname ~ format('^_stream_%s(_items|_deltas|_item_deltas)?$', stream_id);
$$;

comment on function flywheel._stream_tables(integer) is 'The tables of a stream.';

-- Every database of ours is in UTF8, so it is immutable.
create or replace function flywheel._text_hash(content text)
returns bytea
language sql
immutable
parallel safe
begin atomic
  select sha256(convert_to(content, 'UTF8'));
end;

comment on function flywheel._text_hash(text) is 'What a text is told apart by where it may be too long for an index.';

-- What a group is told apart by, in a unique index: of texts and their like, which may be longer than an
-- index can hold, their hashes. Equal values that print otherwise then have two rows, which are added up
-- when they are read, as groups and deltas are.
create or replace function flywheel._stream_index_keys(stream flywheel._metric_streams)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select string_agg(
    case
      when a.atttypid = any ('{text,varchar,bpchar,jsonb,numeric}'::regtype[]) then format('flywheel._text_hash(%s::text)', a.attname)
      else a.attname::text
    end,
    ', ' order by a.attnum
  )
  from pg_attribute as a
  where a.attrelid = to_regclass('flywheel._stream_' || stream.stream_id) and a.attname ~ '^k\d+$';
$$;

comment on function flywheel._stream_index_keys(flywheel._metric_streams) is 'The key columns of a stream as its unique indexes have them.';

create or replace function flywheel._index_stream(stream flywheel._metric_streams)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_name constant text := '_stream_' || stream.stream_id;
  v_keys constant text := flywheel._stream_index_keys(stream);
begin
  execute format('create unique index if not exists %I on flywheel.%I (%s) nulls not distinct', v_name || '_groups', v_name, v_keys);
  if to_regclass(format('flywheel.%I', v_name || '_items')) is not null then
    execute format(
      'create unique index if not exists %I on flywheel.%I (%s, item, bucket) nulls not distinct',
      v_name || '_items_groups', v_name || '_items', v_keys
    );
  end if;
end
$$;

comment on function flywheel._index_stream(flywheel._metric_streams) is 'Makes the unique indexes of a stream by which it is folded.';

-- Deltas are rows that come and go, so what is dead is cleared away often.
create or replace function flywheel._make_stream_tables(stream flywheel._metric_streams)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_name constant text := '_stream_' || stream.stream_id;
  v_keys constant text := (select k.names from flywheel._stream_keys(stream) as k);
  v_table text;
begin
  execute format(
    'create table flywheel.%I as %s with no data',
    v_name, flywheel._stream_query(
      stream, 'inserted', 'flywheel.' || flywheel._fact_table(stream.fact)
    )
  );
  execute format('create table flywheel.%I (like flywheel.%I)', v_name || '_deltas', v_name);
  if flywheel._stream_item_query(stream, 'inserted') is not null then
    execute format(
      'create table flywheel.%I as select %s, null::smallint as item, null::integer as bucket, null::bigint as n from flywheel.%I with no data',
      v_name || '_items', v_keys, v_name
    );
    execute format('create table flywheel.%I (like flywheel.%I)', v_name || '_item_deltas', v_name || '_items');
  end if;
  perform flywheel._index_stream(stream);
  for v_table in select t.name from flywheel._stream_tables(stream.stream_id) as t loop
    execute format('comment on table flywheel.%I is %L', v_table, 'What a stream of incremental metrics keeps.');
    execute format('grant select on flywheel.%I to flywheel_metric', v_table);
    if v_table like '%deltas' then
      execute format('grant insert on flywheel.%I to flywheel_metric', v_table);
      execute format(
        'alter table flywheel.%I set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1)',
        v_table
      );
    end if;
    execute (
      select string_agg(format('comment on column flywheel.%I.%I is %L', v_table, a.attname, 'Key or measure of the stream.'), '; ')
      from pg_attribute as a
      where a.attrelid = to_regclass(format('flywheel.%I', v_table)) and a.attnum > 0
    );
  end loop;
end
$$;

comment on function flywheel._make_stream_tables(flywheel._metric_streams) is 'Makes the tables of a stream.';

-- The statements that append a change to a stream.
create or replace function flywheel._stream_statements(
  stream flywheel._metric_streams, event text, is_grouped boolean default true
)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select array_remove(
    array[
      format(
        E'insert into flywheel._stream_%s_deltas (%s, %s)\n    %s%s',
        stream.stream_id, k.names, flywheel._stream_columns(stream),
        flywheel._stream_query(stream, event, is_grouped => is_grouped),
        -- An update of what is not counted leaves no trace.
        case when event = 'updated' then E'\n    having pg_catalog.count(*) operator(pg_catalog.>) 0' end
      ),
      E'insert into flywheel._stream_' || stream.stream_id || '_item_deltas (' || k.names || E', item, bucket, n)\n    '
        || flywheel._stream_item_query(stream, event)
    ],
    null
  )
  from flywheel._stream_keys(stream) as k;
$$;

comment on function flywheel._stream_statements(flywheel._metric_streams, text, boolean) is 'The statements that append the deltas of one change.';

-- The functions that emit, one for each table and event. Like the compiled validators they carry no
-- SET clause and qualify every name; they run as flywheel_metric. Of the few rows of one trace hardly
-- two have the same keys, so they are not grouped. A small statement has a plan that is kept, a large
-- one is planned for its size.
create or replace function flywheel._compile_streams(fact text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_base constant text := flywheel._fact_table(_compile_streams.fact);
  v_event text;
  v_statements text[];
  v_ungrouped text[];
  v_rows text;
  v_body text;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'metrics cannot be changed in a transaction that is %', current_setting('transaction_isolation')
      using errcode = 'LF107', hint = 'Use READ COMMITTED: another session''s change would be undone.';
  end if;
  foreach v_event in array array['inserted', 'updated', 'deleted'] loop
    select coalesce(array_agg(t.statement order by s.stream_id, t.position), '{}'),
      array_agg(t.ungrouped order by s.stream_id, t.position)
    into v_statements, v_ungrouped
    from flywheel._metric_streams as s,
      rows from (
        unnest(flywheel._stream_statements(s, v_event)),
        unnest(flywheel._stream_statements(s, v_event, is_grouped => v_event = 'updated'))
      ) with ordinality as t (statement, ungrouped, position)
    where s.fact = _compile_streams.fact and s.state <> 'retired';
    v_rows := case v_event when 'deleted' then 'old_rows' else 'new_rows' end;
    v_body := E'\n-- Written by flywheel._compile_streams().\nbegin\n';
    if v_event = 'deleted' and v_statements <> '{}' then
      -- Retention may keep what has been counted (set_retention(..., keep_rollups => true)). Anybody
      -- can set a setting, so it counts only where it is the background's.
      v_body := v_body || $body$  if pg_catalog.current_setting('flywheel.keep_rollups', true) operator(pg_catalog.=) 'on'
    and pg_catalog.pg_has_role(session_user, 'flywheel_worker', 'member') then
    return null;
  end if;
$body$;
    end if;
    if v_statements <> '{}' then
      if v_ungrouped <> v_statements then
        v_body := v_body || format(
          E'  perform from %s as n offset 8 limit 1;\n  if not found then\n%s\n    return null;\n  end if;\n',
          v_rows, (select string_agg(format('    %s;', s), E'\n' order by n) from unnest(v_ungrouped) with ordinality as u (s, n))
        );
      end if;
      v_body := v_body || format(
        E'  perform from %s as n offset 1000 limit 1;\n  if not found then\n%s\n  else\n%s\n  end if;\n',
        v_rows,
        (select string_agg(format('    %s;', s), E'\n' order by n) from unnest(v_statements) with ordinality as u (s, n)),
        (select string_agg(format('    execute %L;', s), E'\n' order by n) from unnest(v_statements) with ordinality as u (s, n))
      );
    end if;
    perform flywheel._replace_compiled(
      format('_tg_%s__emit_%s()', ltrim(v_base, '_'), v_event), 'trigger', v_body || E'  return null;\nend\n'
    );
  end loop;
end
$$;

comment on function flywheel._compile_streams(text) is 'Writes the streams of a fact into the functions that emit its changes.';

-- Fills a stream from the rows of its fact. One statement: what it counts and the deltas it takes
-- away are of one snapshot.
create or replace function flywheel._fill_stream(stream flywheel._metric_streams)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_name constant text := '_stream_' || stream.stream_id;
  v_base constant text := flywheel._fact_table(stream.fact);
  v_keys constant text := (select k.names from flywheel._stream_keys(stream) as k);
  v_items constant text := flywheel._stream_item_query(stream, 'inserted', 'flywheel.' || v_base);
  v_start timestamptz := clock_timestamp();
begin
  perform pg_advisory_xact_lock(flywheel._stream_lock(stream.stream_id));
  execute format('delete from flywheel.%I', v_name);
  if v_items is not null then
    execute format('delete from flywheel.%I', v_name || '_items');
  end if;
  execute format(
    'with gone as (delete from flywheel.%1$I_deltas)%2$s insert into flywheel.%1$I (%3$s, %4$s) %5$s',
    v_name,
    case when v_items is not null then format(
      ', gone_items as (delete from flywheel.%1$I_item_deltas), items as (insert into flywheel.%1$I_items (%2$s, item, bucket, n) %3$s)',
      v_name, v_keys, v_items
    ) end,
    v_keys, flywheel._stream_columns(stream), flywheel._stream_query(stream, 'inserted', 'flywheel.' || v_base)
  );
  execute format('analyze flywheel.%I', v_name);
  update flywheel._metric_streams as s
  set state = 'ready', writers = null, keeps_rollups = false, filled_at = flywheel.now(), fill_ms = extract(epoch from clock_timestamp() - v_start) * 1000
  where s.stream_id = stream.stream_id;
end
$$;

comment on function flywheel._fill_stream(flywheel._metric_streams) is 'Computes what a stream keeps from the rows of its fact.';

-- Under the lock of the stream: nobody is folding it.
create or replace function flywheel._drop_stream(stream flywheel._metric_streams)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_name text;
begin
  for v_name in select t.name from flywheel._stream_tables(stream.stream_id) as t loop
    execute format('drop table flywheel.%I', v_name);
  end loop;
  for v_name in
    select p.oid::regprocedure::text
    from pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace and p.proname ~ format('^_stream_%s_e\d', stream.stream_id)
    order by p.proname like '%\_raw'
  loop
    execute format('drop function %s', v_name);
  end loop;
  delete from flywheel._metric_streams as s where s.stream_id = stream.stream_id;
end
$$;

comment on function flywheel._drop_stream(flywheel._metric_streams) is 'Drops a stream that nobody reads or writes.';
