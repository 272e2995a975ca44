-- Forgetting: everything that holds what was said in some traces, wherever it was copied to.
--
-- A new table that holds texts of traces, or of labels about them, is added here. A test writes a word
-- into every column it can and looks for it in every table afterwards.

-- A judge's prompt shows labelled examples, so texts of a trace are in prompts about others. They stand
-- at the beginning of a tag, whole or shortened (internal/material.sql).
create or replace function flywheel._quotations(trace_ids uuid[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select array_agg(distinct E'>\n' || left(q.quoted, 50) || case when length(q.quoted) <= 50 then E'\n</' else '' end)
  from flywheel._labels as l, unnest(array[l.input, l.output, l.reason]) as q (quoted)
  where l.trace_id = any (trace_ids) and q.quoted <> '';
$$;

comment on function flywheel._quotations(uuid[]) is
  'What a judge''s prompt contains if it shows labels of these traces as examples: the beginning of each text, as it stands in its tag.';

create or replace function flywheel._forget_prompts(trace_ids uuid[])
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_quotations constant text[] := flywheel._quotations(trace_ids);
  v_prompts bigint[];
  v_runs bigint;
begin
  if v_quotations is null then
    return 0;
  end if;
  v_prompts := array(
    select p.prompt_id
    from flywheel._prompts as p
    where exists (select from unnest(v_quotations) as q (quoted) where strpos(p.content, q.quoted) > 0)
  );
  -- Cost and outcome stay. The reply may repeat what the prompt said.
  update flywheel._runs as r
  set messages = null, replies = null, prompt_id = null, error = case when r.error is not null then 'removed when a trace was forgotten' end
  from flywheel._validator_versions as v
  where v.version_id = r.version_id and v.few_shot_k > 0
    and v.validator_id in (select l.validator_id from flywheel._labels as l where l.trace_id = any (trace_ids))
    and r.trace_id <> all (trace_ids)
    and (
      r.prompt_id = any (v_prompts)
      or exists (
        select
        from jsonb_array_elements(case jsonb_typeof(r.messages) when 'array' then r.messages else '[]' end) as m (message),
          unnest(v_quotations) as q (quoted)
        where strpos(m.message ->> 'content', q.quoted) > 0
      )
    );
  get diagnostics v_runs = row_count;
  delete from flywheel._prompts as p where p.prompt_id = any (v_prompts);
  return v_runs;
end
$$;

comment on function flywheel._forget_prompts(uuid[]) is
  'Removes the prompts and replies of runs about other traces that were shown labels of these as examples; returns of how many.';

create or replace function flywheel._forget_vectors(item_ids uuid[])
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_table text;
  v_count bigint;
  v_removed bigint := 0;
begin
  delete from flywheel._embedding_jobs as j where j.item_id = any (item_ids);
  for v_table in
    select t
    from flywheel._vector_segments as s, flywheel._tables_of_store(s.embedder_id, s.store) as t
    where s.state = 'open'
    order by t
  loop
    execute format('delete from %s as v where v.item_id = any ($1)', v_table) using item_ids;
    get diagnostics v_count = row_count;
    v_removed := v_removed + v_count;
  end loop;
  -- Of a part that is being merged right now, a copy has them still.
  insert into flywheel._stale_vectors (store, item_id)
  select distinct s.store, i.item_id
  from flywheel._vector_segments as s, unnest(item_ids) as i (item_id);
  return v_removed;
end
$$;

comment on function flywheel._forget_vectors(uuid[]) is 'Removes the vectors of traces and examples from every store, at once; returns how many.';

-- A metric holds what it was computed from: groups, words, examples. An incremental one has subtracted it
-- by now, and a fold takes away the groups that are empty; if another session folds at this moment, the
-- next one does.
create or replace function flywheel._forget_metrics()
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics;
  v_refreshed bigint := 0;
begin
  perform flywheel.fold_metrics(60);
  -- It may quote a value. What still fails says so again.
  update flywheel._metrics as m set problem = null, problem_at = null where m.problem is not null;
  for v_metric in select m.* from flywheel._metrics as m where m.storage = 'materialized' order by m.metric_id loop
    if flywheel._try_refresh_metric(v_metric) then
      v_refreshed := v_refreshed + 1;
    else
      raise warning 'the metric % may still show what was forgotten: it cannot be refreshed', v_metric.name
        using hint = 'See its problem in flywheel.metrics, and mend or drop it.';
    end if;
  end loop;
  return v_refreshed;
end
$$;

comment on function flywheel._forget_metrics() is 'Folds incremental metrics and computes materialized ones anew; returns how many of these. Warns of those that cannot be.';

-- Endpoints and checks like to repeat what they were given. What has failed is known afterwards, not why.
create or replace function flywheel._forget_errors()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_said constant text := 'removed when a trace was forgotten';
begin
  update flywheel._pauses as p set error = v_said where p.error <> v_said;
  update flywheel._model_states as s set last_error = v_said where s.last_error <> v_said;
  update flywheel._embedder_states as s set last_error = v_said where s.last_error <> v_said;
  update flywheel._breaches as b set error = v_said where b.error <> v_said;
  update flywheel._schedules as s set last_error = v_said where s.last_error <> v_said;
  -- Of a batch, all texts have the error of one.
  update flywheel._embedding_jobs as j set last_error = v_said where j.last_error <> v_said;
end
$$;

comment on function flywheel._forget_errors() is 'Removes messages of failures, which may quote a text: of models, embedders, pauses, breaches and schedules.';

create or replace function flywheel._forget(trace_ids uuid[])
returns table (what text, removed bigint)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_labels bigint[];
  v_examples uuid[];
  v_counts record;
begin
  perform flywheel._forget_errors();
  -- In the order in which everybody locks them. Nobody labels, judges or changes them from here on.
  perform from flywheel.traces as t where t.trace_id = any (trace_ids) order by t.trace_id for update;
  perform from flywheel._label_splits as s where s.trace_id = any (trace_ids) order by s.trace_id for update;

  select
    (select count(*) from flywheel.spans as s where s.trace_id = any (trace_ids)) as spans,
    (select count(*) from flywheel._verdicts as v where v.trace_id = any (trace_ids)) as verdicts,
    (select count(*) from flywheel._jobs as j where j.trace_id = any (trace_ids)) as jobs,
    (select count(*) from flywheel._runs as r where r.trace_id = any (trace_ids)) as runs
  into strict v_counts;
  v_labels := array(select l.label_id from flywheel._labels as l where l.trace_id = any (trace_ids));
  v_examples := array(select e.example_id from flywheel._examples as e where e.trace_id = any (trace_ids));

  -- Whoever forgets does not go on counting.
  perform set_config('flywheel.keep_rollups', 'off', true);
  what := 'traces';
  delete from flywheel.traces as t where t.trace_id = any (trace_ids);
  get diagnostics removed = row_count;
  return next;
  -- Of traces that are gone already, or never arrived.
  delete from flywheel.spans as s where s.trace_id = any (trace_ids);
  delete from flywheel._verdicts as v where v.trace_id = any (trace_ids);
  delete from flywheel._jobs as j where j.trace_id = any (trace_ids);
  delete from flywheel._runs as r where r.trace_id = any (trace_ids);
  return query values
    ('spans', v_counts.spans), ('verdicts', v_counts.verdicts), ('jobs', v_counts.jobs), ('runs', v_counts.runs);

  what := 'prompts about others';
  removed := flywheel._forget_prompts(trace_ids);
  return next;
  what := 'vectors';
  removed := flywheel._forget_vectors(trace_ids || v_examples);
  return next;

  what := 'examples';
  delete from flywheel._example_approvals as a where a.label_id = any (v_labels);
  delete from flywheel._examples as e where e.trace_id = any (trace_ids);
  get diagnostics removed = row_count;
  return next;
  what := 'labels';
  delete from flywheel._label_heads as h where h.trace_id = any (trace_ids);
  delete from flywheel._label_withdrawals as w where w.trace_id = any (trace_ids);
  delete from flywheel._labels as l where l.trace_id = any (trace_ids);
  get diagnostics removed = row_count;
  delete from flywheel._label_splits as s where s.trace_id = any (trace_ids);
  return next;

  what := 'materialized metrics computed anew';
  removed := flywheel._forget_metrics();
  return next;
end
$$;

comment on function flywheel._forget(uuid[]) is 'Removes everything about some traces; returns how much of what.';

create or replace function flywheel.forget_trace(trace_id uuid)
returns table (what text, removed bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if trace_id is null then
    raise exception 'the trace is null' using errcode = 'LF002', hint = 'Give the trace_id.';
  end if;
  return query select f.what, f.removed from flywheel._forget(array[trace_id]) as f;
end
$$;

comment on function flywheel.forget_trace(uuid) is
  'Removes everything about a trace, whether it is still there or gone: the trace, its spans, verdicts, jobs and runs; its labels and their split, which outlive it otherwise; examples and vectors; prompts about other traces that show it as an example; and messages of failures, which may quote it. Metrics forget it: materialized ones are computed anew. Returns how much of what was removed. It cannot be undone.';

create or replace function flywheel.forget_user(user_id text)
returns table (what text, removed bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if user_id is null then
    raise exception 'the user is null'
      using errcode = 'LF002', hint = 'Give the user_id. Traces without one are nobody''s: forget them one by one.';
  end if;
  return query
  select f.what, f.removed
  from flywheel._forget(array(select t.trace_id from flywheel.traces as t where t.user_id = forget_user.user_id)) as f;
end
$$;

comment on function flywheel.forget_user(text) is
  'forget_trace() for all traces with this user_id, in one transaction.';
