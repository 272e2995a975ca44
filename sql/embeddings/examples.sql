-- Which labels prompts may show: the rows of _examples, kept in step with the labels.
--
-- A row is only there if its label is the current one (or the newest correction) of its target, is in the
-- split train, is a person's, and was not forgotten as an example. The table's own constraints say so
-- again: whatever calls for examples reads nothing else.

create or replace view flywheel._wanted_examples as
select 'verdict' as kind, l.trace_id, l.span_id, l.validator_id, l.label_id, l.source, l.labeler, l.created_at,
  l.passed, l.input, l.output, l.corrected_output, l.reason, l.pipeline, l.node
from flywheel._current_labels as l
where l.precedence = 3 and l.split = 'train' and l.passed is not null
  and not exists (select from flywheel._example_approvals as a where a.label_id = l.label_id and not a.is_approved)
union all
select 'correction', c.trace_id, coalesce(c.span_id, flywheel._no_span()), d.validator_id, c.label_id, c.source, c.labeler, c.created_at,
  null, c.input, c.output, c.corrected_output, c.reason, c.pipeline, c.node
from flywheel.corrections as c
left join flywheel._validators as d on d.name = c.validator
where c.split = 'train'
  and not exists (select from flywheel._example_approvals as a where a.label_id = c.label_id and not a.is_approved);

comment on view flywheel._wanted_examples is 'What _examples should hold, as the labels say it.';

create or replace function flywheel._example_store(kind text)
returns text
language sql
immutable
parallel safe
begin atomic
  select case kind when 'verdict' then 'examples' else 'corrections' end;
end;

comment on function flywheel._example_store(text) is 'The store with the vectors of examples of a kind.';

create or replace function flywheel._example_scope(kind text, validator_id integer, pipeline text)
returns text
language sql
immutable
parallel safe
begin atomic
  select case kind when 'verdict' then validator_id::text else pipeline end;
end;

comment on function flywheel._example_scope(text, integer, text) is
  'What searches of its store are narrowed to: the validator of an example, the pipeline of a correction.';

-- How far the verdict was from the label, as a probability: a judge that was sure of the opposite is 1.
create or replace function flywheel._disagreement(
  trace_id uuid, span_id uuid, validator_id integer, passed boolean
)
returns real
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select abs(
    case when v.status = 'passed' then coalesce(v.confidence, 1) else 1 - coalesce(v.confidence, 1) end
    - _disagreement.passed::integer
  )::real
  from flywheel._validator_versions as r
  join flywheel._verdicts as v
    on v.trace_id = _disagreement.trace_id and v.span_id = _disagreement.span_id and v.version_id = r.version_id
  where r.validator_id = _disagreement.validator_id and v.status in ('passed', 'failed')
  order by r.version desc
  limit 1;
$$;

comment on function flywheel._disagreement(uuid, uuid, integer, boolean) is
  'How far the newest verdict of a validator on a target is from what a person says: from 0, the same, to 1, the opposite; null without a verdict.';

-- Called wherever a label, a withdrawal or an approval is written, in its transaction.
create or replace function flywheel._sync_examples(trace_id uuid, span_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_new flywheel._examples[];
begin
  with gone as (
    delete from flywheel._examples as e
    where e.trace_id = _sync_examples.trace_id and e.span_id = _sync_examples.span_id
      and not exists (
        select from flywheel._wanted_examples as w
        where w.trace_id = _sync_examples.trace_id and w.span_id = _sync_examples.span_id
          and w.label_id = e.label_id and w.kind = e.kind
      )
    returning e.example_id, e.kind
  )
  insert into flywheel._stale_vectors (store, item_id)
  select flywheel._example_store(g.kind), g.example_id from gone as g;

  with added as (
    insert into flywheel._examples (
      kind, trace_id, span_id, validator_id, label_id, source, labeler, created_at, passed, input, output,
      corrected_output, reason, pipeline, node, session_id, disagreement
    )
    select w.kind, w.trace_id, w.span_id, w.validator_id, w.label_id, w.source, w.labeler, w.created_at, w.passed, w.input,
      w.output, w.corrected_output, w.reason, w.pipeline, w.node, t.session_id,
      case when w.kind = 'verdict' then flywheel._disagreement(w.trace_id, w.span_id, w.validator_id, w.passed) end
    from flywheel._wanted_examples as w
    left join flywheel.traces as t on t.trace_id = w.trace_id
    where w.trace_id = _sync_examples.trace_id and w.span_id = _sync_examples.span_id
    on conflict on constraint _examples_label_id_kind_key do nothing
    returning *
  )
  select array_agg(a::flywheel._examples) into v_new from added as a;
  if v_new is not null then
    perform flywheel._embed_examples(v_new);
    perform flywheel._add_example_references(v_new);
  end if;
end
$$;

comment on function flywheel._sync_examples(uuid, uuid) is
  'Brings the examples about a trace or span in step with its labels, and embeds the new ones.';

create or replace function flywheel._embed_examples(examples flywheel._examples[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_embedder flywheel._embedders;
  v_new record;
begin
  for v_new in
    select flywheel._example_store(e.kind) as store, array_agg(e.example_id) as ids, array_agg(1) as revisions,
      array_agg(flywheel._example_scope(e.kind, e.validator_id, e.pipeline)) as scopes, array_agg(e.created_at) as ats,
      array_agg(flywheel._text_to_embed(e.input, e.output)) as texts
    from unnest(examples) as e
    group by 1
  loop
    for v_embedder in select e.* from flywheel._embedders_of(v_new.store) as e loop
      if v_embedder.provider = 'hash' then
        perform flywheel._add_vectors(
          v_embedder, v_new.store, v_new.ids, v_new.revisions, v_new.scopes, v_new.ats, flywheel._hash_vectors(v_new.texts)
        );
      else
        perform flywheel._enqueue_embeddings(v_embedder.embedder_id, v_new.store, v_new.ids, 0);
      end if;
    end loop;
  end loop;
end
$$;

comment on function flywheel._embed_examples(flywheel._examples[]) is
  'Gives new examples their vectors, those of hash at once.';

-- A judge may come to its verdict after the label was made.
create or replace function flywheel._note_disagreements(most integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  update flywheel._examples as e
  set disagreement = d.disagreement
  from (
    select n.example_id, flywheel._disagreement(n.trace_id, n.span_id, n.validator_id, n.passed) as disagreement
    from (
      select l.example_id, l.trace_id, l.span_id, l.validator_id, l.passed
      from flywheel._examples as l
      where l.kind = 'verdict' and l.disagreement is null and l.created_at > flywheel.now() - interval '7 days'
      order by l.created_at desc
      limit most
    ) as n
  ) as d
  where e.example_id = d.example_id and d.disagreement is not null;
end
$$;

comment on function flywheel._note_disagreements(integer) is
  'Fills in how far verdicts are from examples that were labelled before, in the last seven days.';

create or replace function flywheel._requires_example_approval()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._is_switched_on('flywheel.require_example_approval');
$$;

comment on function flywheel._requires_example_approval() is
  'Whether prompts show only approved examples: flywheel.require_example_approval of the database or the session.';

create or replace function flywheel._decide_example(label_id bigint, is_approved boolean, reason text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_label flywheel._labels;
begin
  select l.* into v_label from flywheel._labels as l where l.label_id = _decide_example.label_id;
  if not found then
    raise exception 'there is no label %', coalesce(label_id::text, 'null')
      using errcode = 'LF004', hint = 'flywheel.examples shows the label_id of each example.';
  end if;
  insert into flywheel._example_approvals as a (label_id, is_approved, reason)
  values (_decide_example.label_id, _decide_example.is_approved, _decide_example.reason)
  on conflict on constraint _example_approvals_pkey do update
  set is_approved = excluded.is_approved, reason = excluded.reason, decided_by = excluded.decided_by, decided_at = excluded.decided_at
  where a.is_approved <> excluded.is_approved;
  if not found then
    return false;
  end if;
  perform flywheel._sync_examples(v_label.trace_id, v_label.span_id);
  return true;
end
$$;

comment on function flywheel._decide_example(bigint, boolean, text) is 'Approves or forgets the example that comes from a label; false if that was decided before.';

create or replace function flywheel.approve_example(label_id bigint, reason text default null)
returns boolean
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._decide_example(label_id, true, reason);
$$;

comment on function flywheel.approve_example(bigint, text) is
  'Has prompts show the example that comes from this label: with flywheel.require_example_approval on, no other is shown. Takes back forget_example(). False if it was approved before.';

create or replace function flywheel.forget_example(label_id bigint, reason text default null)
returns boolean
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._decide_example(label_id, false, reason);
$$;

comment on function flywheel.forget_example(bigint, text) is
  'Has no prompt show the example that comes from this label any more, from this transaction on. The label counts as before. False if it was forgotten before.';

create or replace view flywheel.examples as
select
  e.label_id,
  e.kind,
  d.name as validator,
  e.passed,
  e.input,
  e.output,
  e.corrected_output,
  e.reason,
  e.trace_id,
  nullif(e.span_id, flywheel._no_span()) as span_id,
  e.pipeline,
  e.node,
  e.session_id,
  e.disagreement,
  e.source,
  e.labeler,
  l.session_role,
  e.created_at,
  a.decided_by as approved_by,
  a.decided_at as approved_at
from flywheel._examples as e
join flywheel._labels as l on l.trace_id = e.trace_id and l.label_id = e.label_id
left join flywheel._validators as d on d.validator_id = e.validator_id
left join flywheel._example_approvals as a on a.label_id = e.label_id and a.is_approved;

comment on view flywheel.examples is
  'What prompts may show, and where each comes from: current labels and newest corrections by people, in the split train. flywheel.forget_example(label_id) takes one away.';
comment on column flywheel.examples.label_id is 'The label it comes from.';
comment on column flywheel.examples.kind is 'verdict: shown to the judge of its validator. correction: shown to the application.';
comment on column flywheel.examples.validator is 'The validator the label answers; null for a correction about none.';
comment on column flywheel.examples.passed is 'What the validator should say.';
comment on column flywheel.examples.input is 'Input of the trace or span.';
comment on column flywheel.examples.output is 'Its output.';
comment on column flywheel.examples.corrected_output is 'What the output should have been.';
comment on column flywheel.examples.reason is 'Why, in the labeler''s words.';
comment on column flywheel.examples.trace_id is 'The trace. The example outlives it.';
comment on column flywheel.examples.span_id is 'The span; null when the label is about the trace itself.';
comment on column flywheel.examples.pipeline is 'Pipeline of the trace.';
comment on column flywheel.examples.node is 'Node of the span; null for a trace.';
comment on column flywheel.examples.session_id is 'Session of the trace: the example is not shown for another trace of it.';
comment on column flywheel.examples.disagreement is 'How far the validator''s verdict was from the label: from 0, the same, to 1, the opposite; null without a verdict.';
comment on column flywheel.examples.source is 'human, human_confirmed or human_edited.';
comment on column flywheel.examples.labeler is 'Who judged, as the caller of label() says.';
comment on column flywheel.examples.session_role is 'The role that was logged in and called label().';
comment on column flywheel.examples.created_at is 'When the label was made.';
comment on column flywheel.examples.approved_by is 'The role that approved the example, if any.';
comment on column flywheel.examples.approved_at is 'When it was approved.';
