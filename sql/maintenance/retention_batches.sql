-- Removing what has expired, a batch at a time, oldest first.
--
-- A batch locks its traces before it deletes them, in the order of their ids, like a completion of
-- jobs, and leaves out those that somebody else has locked: no writer and no worker waits for it
-- longer than the batch takes, and it waits for nobody. What was left out is found again, because the
-- place from which the next batch looks is not moved past it.

-- Spans whose trace never arrived belong to no pipeline, so the rule for all others is theirs. A call
-- looks at a bounded number of spans; those of traces that are kept are passed over once a day.
create or replace function flywheel._retention_spans(
  rule flywheel._retention, max_spans integer, is_restart boolean, out removed bigint, out is_more boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_before constant timestamptz := flywheel._expiry(rule.keep);
  v_from constant timestamptz := case when is_restart then '-infinity' else rule.spans_looked_to end;
  v_look constant integer := 20000;
  v_looked integer;
  v_next timestamptz;
  v_trace_ids uuid[];
  v_span_ids uuid[];
begin
  with looked as materialized (
    select s.trace_id, s.span_id, s.received_at
    from flywheel.spans as s
    where s.received_at >= v_from and s.received_at < v_before
    order by s.received_at
    limit v_look
  ),
  expired as (
    select l.trace_id, l.span_id
    from looked as l
    where not exists (select from flywheel.traces as t where t.trace_id = l.trace_id)
      and not (rule.keep_labelled and exists (select from flywheel._standing_labels as b where b.trace_id = l.trace_id))
    order by l.received_at
    limit max_spans
  )
  select (select count(*) from looked), (select max(l.received_at) from looked as l),
    coalesce(array_agg(e.trace_id), '{}'), array_agg(e.span_id)
  into v_looked, v_next, v_trace_ids, v_span_ids
  from expired as e;

  delete from flywheel.spans as s
  where (s.trace_id, s.span_id) in (
    select o.trace_id, o.span_id
    from rows from (unnest(v_trace_ids), unnest(v_span_ids)) as k (trace_id, span_id)
    join flywheel.spans as o on o.trace_id = k.trace_id and o.span_id = k.span_id
    order by o.trace_id, o.span_id
    for update of o skip locked
  );
  get diagnostics removed = row_count;
  is_more := v_looked = v_look or cardinality(v_trace_ids) = max_spans;
  update flywheel._retention as r
  set spans_looked_to = case
    when _retention_spans.removed > 0 and cardinality(v_trace_ids) = max_spans then v_from
    -- Of more spans than that with the same time, some are passed over.
    when is_more then greatest(v_next, v_from + interval '1 microsecond')
    else v_before
  end
  where r.pipeline is null;
end
$$;

comment on function flywheel._retention_spans(flywheel._retention, integer, boolean) is
  'Removes the oldest expired spans that have no trace, by the rule for all other pipelines.';

-- The traces that a batch looks at are those from the place where the last one stopped. Those that are
-- kept (labelled, of another pipeline) are passed over once, and once a day all of them are looked at
-- again: a label may have been withdrawn.
create or replace function flywheel._retention_batch(rule flywheel._retention, max_traces integer, out removed bigint, out is_more boolean)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_before constant timestamptz := flywheel._expiry(rule.keep);
  v_restart constant boolean := rule.restarted_at < flywheel.now() - interval '1 day' or rule.looked_to > v_before;
  v_from timestamptz := case when v_restart then '-infinity' else rule.looked_to end;
  v_next timestamptz;
  v_look bigint := greatest(max_traces::bigint * 10, 1000);
  v_looked bigint;
  v_last timestamptz;
  v_expired uuid[];
  v_trace_ids uuid[];
  v_spans bigint;
  v_are_more_spans boolean;
begin
  removed := 0;
  perform set_config('flywheel.keep_rollups', case when rule.keep_rollups then 'on' else 'off' end, true);
  loop
    with looked as materialized (
      select t.trace_id, t.pipeline, t.received_at
      from flywheel.traces as t
      where t.received_at >= v_from and t.received_at < v_before
      order by t.received_at
      limit v_look
    ),
    expired as (
      select l.trace_id, l.received_at
      from looked as l
      where case
          when rule.pipeline is null then not exists (select from flywheel._retention as r where r.pipeline = l.pipeline)
          else l.pipeline = rule.pipeline
        end
        and not (rule.keep_labelled and exists (select from flywheel._standing_labels as b where b.trace_id = l.trace_id))
      order by l.received_at
      limit max_traces
    )
    select (select count(*) from looked), (select max(l.received_at) from looked as l),
      coalesce(array_agg(e.trace_id), '{}'), max(e.received_at)
    into v_looked, v_last, v_expired, v_next
    from expired as e;
    is_more := v_looked = v_look or cardinality(v_expired) = max_traces;
    v_next := case
      when cardinality(v_expired) = max_traces then v_next
      when is_more then v_last
      else v_before
    end;
    exit when v_expired <> '{}' or not is_more;
    -- More traces than that have the same time, and all are kept.
    v_look := case when v_next = v_from then v_look * 4 else v_look end;
    exit when v_next > v_from;
  end loop;

  if v_expired <> '{}' then
    v_trace_ids := array(
      select t.trace_id
      from flywheel.traces as t
      where t.trace_id = any (v_expired)
      order by t.trace_id
      for update skip locked
    );
    if cardinality(v_trace_ids) < cardinality(v_expired) then
      v_next := least(v_next, (
        select min(t.received_at)
        from flywheel.traces as t
        where t.trace_id = any (v_expired) and t.trace_id <> all (v_trace_ids)
      ));
      -- Nothing but locked traces: later, and not at once.
      is_more := is_more and v_trace_ids <> '{}';
    end if;
    -- A label that was committed before we had the lock is seen now.
    delete from flywheel.traces as t
    where t.trace_id = any (v_trace_ids)
      and not (rule.keep_labelled and exists (select from flywheel._standing_labels as b where b.trace_id = t.trace_id));
    get diagnostics removed = row_count;
  end if;
  if rule.pipeline is null and removed < max_traces then
    select s.removed, s.is_more into strict v_spans, v_are_more_spans
    from flywheel._retention_spans(rule, max_traces - removed::integer, v_restart) as s;
    removed := removed + v_spans;
    is_more := is_more or v_are_more_spans;
  end if;
  perform set_config('flywheel.keep_rollups', 'off', true);
  if removed > 0 and rule.keep_rollups then
    update flywheel._metric_streams as s set keeps_rollups = true where not s.keeps_rollups;
  end if;

  update flywheel._retention as r
  set looked_to = v_next,
    restarted_at = case when v_restart then flywheel.now() else r.restarted_at end,
    last_run_at = flywheel.now(),
    removed = r.removed + _retention_batch.removed
  where r.pipeline is not distinct from rule.pipeline;
end
$$;

comment on function flywheel._retention_batch(flywheel._retention, integer) is
  'Removes the oldest expired traces of one rule, which is locked. While it deletes, the setting flywheel.keep_rollups is on for a rule that keeps roll-ups: then nothing is subtracted from incremental metrics.';

create or replace function flywheel.apply_retention(max_traces integer default 1000)
returns table (pipeline text, removed bigint, is_more boolean)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_left integer := max_traces;
  v_rule flywheel._retention;
begin
  if max_traces is null or max_traces < 1 then
    raise exception 'max_traces is %', coalesce(max_traces::text, 'null')
      using errcode = 'LF002', hint = 'Give the number of traces to remove at most.';
  end if;
  for v_rule in
    select r.* from flywheel._retention as r order by r.last_run_at nulls first, r.pipeline for update skip locked
  loop
    pipeline := v_rule.pipeline;
    select b.removed, b.is_more into removed, is_more from flywheel._retention_batch(v_rule, v_left) as b;
    return next;
    v_left := v_left - removed;
    exit when v_left <= 0;
  end loop;
end
$$;

comment on function flywheel.apply_retention(integer) is
  'Removes at most so many traces (and spans whose trace never arrived) that have expired, in this transaction, and returns how many of each pipeline, and whether there may be more. Waits for nobody: what is locked is left for the next time. The schedule retention calls it, and flywheel.enforce_retention() until nothing is left.';

-- Each batch keeps a processor and the disk for some milliseconds. So after one comes a rest, nine times
-- as long, with no transaction open: what writers feel of it is in a tenth of their statements.
create or replace function flywheel._task_retention(
  max_seconds double precision, out removed bigint, out is_more boolean, out rest_seconds double precision
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_start constant timestamptz := clock_timestamp();
begin
  select coalesce(sum(a.removed), 0), coalesce(bool_or(a.is_more), false) into removed, is_more
  from flywheel.apply_retention(100) as a;
  rest_seconds := case when removed > 0 and is_more then least(9 * extract(epoch from clock_timestamp() - v_start), 2) else 0 end;
end
$$;

comment on function flywheel._task_retention(double precision) is
  'The task retention: one small batch, and how long to rest after it so that writers hardly notice.';

create or replace procedure flywheel.enforce_retention(batch_size integer default 100, share double precision default 0.1)
language plpgsql
as $$
declare
  v_batch record;
  v_start pg_catalog.timestamptz;
  v_removed pg_catalog.int8 := 0;
begin
  if share is null or share operator(pg_catalog.<=) 0 or share operator(pg_catalog.>) 1 then
    raise exception 'share is %', coalesce(share::pg_catalog.text, 'null')
      using errcode = 'LF002', hint = 'Give the share of the time in which it works: 1 is as fast as it can, 0.1 rests nine times as long as it works.';
  end if;
  if pg_catalog.statement_timestamp() operator(pg_catalog.<>) pg_catalog.transaction_timestamp() then
    raise notice 'enforce_retention commits after each batch: CALL it outside BEGIN, with autocommit on in a driver';
  end if;
  commit;
  loop
    v_start := pg_catalog.clock_timestamp();
    select pg_catalog.sum(a.removed) as removed, pg_catalog.bool_or(a.is_more) as is_more
    into strict v_batch
    from flywheel.apply_retention(batch_size) as a;
    v_removed := v_removed operator(pg_catalog.+) coalesce(v_batch.removed::pg_catalog.int8, 0);
    commit;
    exit when v_batch.is_more is not true;
    if v_batch.removed operator(pg_catalog.>) 0 and share operator(pg_catalog.<) 1 then
      perform pg_catalog.pg_sleep(
        least(
          pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() operator(pg_catalog.-) v_start)
            operator(pg_catalog.*) (1 operator(pg_catalog./) share operator(pg_catalog.-) 1),
          2
        )
      );
      commit;
    end if;
  end loop;
  raise notice '% traces removed', v_removed;
end
$$;

comment on procedure flywheel.enforce_retention(integer, double precision) is
  'Removes all traces that have expired. Commits after each batch, so it can be interrupted and called again, and writers do not wait. It works that share of the time and rests between batches, at most two seconds, so that writers hardly notice; share => 1 is as fast as it can.';
