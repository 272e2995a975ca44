-- Trigger functions that are not compiled. Those that validate are in internal/compiler.sql.

-- The one row-level trigger, on UPDATE only and only for rows whose content changes (its WHEN):
-- the new revision is then in the row that is written, and the statement trigger needs no join of
-- the old rows with the new ones to know which changed: theirs is the start of this statement.
create or replace function flywheel._tg_targets__revise()
returns trigger
language plpgsql
as $$
begin
  new.revision := old.revision operator(pg_catalog.+) 1;
  new.revised_at := pg_catalog.statement_timestamp();
  new.generation := flywheel._generation();
  return new;
end
$$;

comment on function flywheel._tg_targets__revise() is
  'Starts a new revision of a trace or span whose content changes.';

create or replace function flywheel._tg_targets__keep_key()
returns trigger
language plpgsql
as $$
begin
  raise exception 'the key of a % cannot be changed', case tg_table_name when 'traces' then 'trace' else 'span' end
    using errcode = 'LF011', hint = 'Verdicts and labels name it. Delete the row and insert it anew.';
end
$$;

comment on function flywheel._tg_targets__keep_key() is 'Refuses an UPDATE of trace_id or span_id.';

-- Only for a trace that moves to another pipeline, which changes what applies to its spans.
create or replace function flywheel._tg_traces__revalidate_spans()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._revalidate_spans(array[new.trace_id]);
  return null;
end
$$;

comment on function flywheel._tg_traces__revalidate_spans() is
  'Has the spans of a trace judged again when the trace moves to another pipeline.';

create or replace function flywheel._tg_traces__delete_dependents()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_trace_ids constant uuid[] := array(select o.trace_id from old_rows as o order by o.trace_id);
begin
  delete from flywheel.spans as s where s.trace_id = any (v_trace_ids);
  delete from flywheel._verdicts as v where v.trace_id = any (v_trace_ids);
  delete from flywheel._jobs as j where j.trace_id = any (v_trace_ids);
  -- Its prompts hold the texts.
  delete from flywheel._runs as r where r.trace_id = any (v_trace_ids);
  -- Nobody finds the vectors of a trace that is gone; index_vectors() removes them.
  insert into flywheel._stale_vectors (store, item_id) select 'log', i.trace_id from unnest(v_trace_ids) as i (trace_id);
  return null;
end
$$;

comment on function flywheel._tg_traces__delete_dependents() is
  'Removes the spans, verdicts, jobs and runs of deleted traces.';

create or replace function flywheel._tg_spans__delete_dependents()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_trace_ids uuid[];
  v_span_ids uuid[];
begin
  select array_agg(o.trace_id), array_agg(o.span_id)
  into v_trace_ids, v_span_ids
  from old_rows as o;
  delete from flywheel._verdicts as v
  using rows from (unnest(v_trace_ids), unnest(v_span_ids)) as k (trace_id, span_id)
  where v.trace_id = k.trace_id and v.span_id = k.span_id;
  delete from flywheel._jobs as j
  using rows from (unnest(v_trace_ids), unnest(v_span_ids)) as k (trace_id, span_id)
  where j.trace_id = k.trace_id and j.span_id = k.span_id;
  delete from flywheel._runs as r
  using rows from (unnest(v_trace_ids), unnest(v_span_ids)) as k (trace_id, span_id)
  where r.trace_id = k.trace_id and r.span_id = k.span_id;
  return null;
end
$$;

comment on function flywheel._tg_spans__delete_dependents() is 'Removes the verdicts, jobs and runs of deleted spans.';

-- The order of locks is that of an INSERT: traces, spans, verdicts, jobs.
create or replace function flywheel._tg_traces__truncate_dependents()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  -- One TRUNCATE may name both tables, and a table cannot be truncated inside its own TRUNCATE.
  if exists (select from flywheel.spans) then
    truncate flywheel.spans;
  end if;
  truncate flywheel._verdicts, flywheel._jobs, flywheel._runs, flywheel._arrivals;
  perform flywheel._empty_logs();
  return null;
end
$$;

comment on function flywheel._tg_traces__truncate_dependents() is
  'Removes all spans, verdicts, jobs and vectors when the traces are truncated.';

create or replace function flywheel._tg_spans__truncate_dependents()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  delete from flywheel._verdicts as v where v.span_id <> flywheel._no_span();
  delete from flywheel._jobs as j where j.span_id <> flywheel._no_span();
  delete from flywheel._runs as r where r.span_id <> flywheel._no_span();
  return null;
end
$$;

comment on function flywheel._tg_spans__truncate_dependents() is
  'Removes all verdicts and jobs about spans when the spans are truncated.';

create or replace function flywheel._tg_labels__raise_heads()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  insert into flywheel._label_heads as h (trace_id, span_id, validator_id, label_id, precedence)
  select distinct on (n.trace_id, n.span_id, n.validator_id) n.trace_id, n.span_id, n.validator_id, n.label_id, n.precedence
  from new_rows as n
  where n.validator_id is not null
  order by n.trace_id, n.span_id, n.validator_id, n.precedence desc, n.label_id desc
  on conflict (trace_id, span_id, validator_id) do update
  set precedence = greatest(h.precedence, excluded.precedence),
    label_id = case
      when (excluded.precedence, excluded.label_id) > (h.precedence, h.label_id) then excluded.label_id
      else h.label_id
    end;
  return null;
end
$$;

comment on function flywheel._tg_labels__raise_heads() is 'Makes new labels the current ones of their targets, where nothing of a higher precedence stands.';

create or replace function flywheel._tg_label_withdrawals__lower_heads()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._settle_label_heads(array_agg(l.trace_id), array_agg(l.span_id), array_agg(l.validator_id))
  from new_rows as n
  join flywheel._labels as l on l.trace_id = n.trace_id and l.label_id = n.label_id
  where l.validator_id is not null
  having count(*) > 0;
  return null;
end
$$;

comment on function flywheel._tg_label_withdrawals__lower_heads() is
  'Has the label before a withdrawn one be the current one again.';

create or replace function flywheel._tg_facts__emit_truncated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_table text;
begin
  -- Readers see the table itself empty at once, too: TRUNCATE knows no snapshots.
  for v_table in
    select t.name
    from flywheel._metric_streams as s
    join flywheel._facts() as f on f.name = s.fact and f.base = tg_table_name
    cross join lateral flywheel._stream_tables(s.stream_id) as t
  loop
    execute format('truncate flywheel.%I', v_table);
  end loop;
  return null;
end
$$;

comment on function flywheel._tg_facts__emit_truncated() is 'Empties the streams of a fact that is truncated.';

-- The compiled functions must exist before the triggers that call them.
do $$
begin
  if to_regprocedure('flywheel._tg_spans__validate_updated()') is null then
    perform flywheel._compile();
  end if;
  if to_regprocedure('flywheel._tg_label_heads__emit_deleted()') is null then
    perform flywheel._compile_streams(f.fact) from (select distinct f.fact from flywheel._facts() as f) as f order by f.fact;
  end if;
end
$$;

comment on function flywheel._tg_traces__validate_inserted() is 'Compiled: validates the rows of an INSERT into traces.';
comment on function flywheel._tg_traces__validate_updated() is 'Compiled: validates the new revisions of an UPDATE of traces.';
comment on function flywheel._tg_spans__validate_inserted() is 'Compiled: validates the rows of an INSERT into spans.';
comment on function flywheel._tg_spans__validate_updated() is 'Compiled: validates the new revisions of an UPDATE of spans.';
comment on function flywheel._gate(uuid, text, text, text, jsonb) is 'Compiled: runs the validators that read no output on one input.';
comment on function flywheel._tg_traces__emit_inserted() is 'Compiled: appends what an INSERT changes to the streams of metrics.';
comment on function flywheel._tg_traces__emit_updated() is 'Compiled: appends what an UPDATE changes to the streams of metrics.';
comment on function flywheel._tg_traces__emit_deleted() is 'Compiled: appends what a DELETE changes to the streams of metrics.';
comment on function flywheel._tg_spans__emit_inserted() is 'Compiled: appends what an INSERT changes to the streams of metrics.';
comment on function flywheel._tg_spans__emit_updated() is 'Compiled: appends what an UPDATE changes to the streams of metrics.';
comment on function flywheel._tg_spans__emit_deleted() is 'Compiled: appends what a DELETE changes to the streams of metrics.';
comment on function flywheel._tg_verdicts__emit_inserted() is 'Compiled: appends what an INSERT changes to the streams of metrics.';
comment on function flywheel._tg_verdicts__emit_updated() is 'Compiled: appends what an UPDATE changes to the streams of metrics.';
comment on function flywheel._tg_verdicts__emit_deleted() is 'Compiled: appends what a DELETE changes to the streams of metrics.';
comment on function flywheel._tg_label_heads__emit_inserted() is 'Compiled: appends what an INSERT changes to the streams of metrics.';
comment on function flywheel._tg_label_heads__emit_updated() is 'Compiled: appends what an UPDATE changes to the streams of metrics.';
comment on function flywheel._tg_label_heads__emit_deleted() is 'Compiled: appends what a DELETE changes to the streams of metrics.';
