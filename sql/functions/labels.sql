-- Labels and corrections by people. Nothing here changes or deletes a row: a correction is a newer
-- label, and a withdrawal is a row of its own.

create or replace function flywheel.label(
  trace_id uuid,
  validator text,
  passed boolean default null,
  reason text default null,
  corrected_output text default null,
  span_id uuid default null,
  gold_label text default null,
  score double precision default null,
  source text default 'human',
  sampling_probability double precision default null,
  labeler text default null,
  version integer default null,
  split text default null,
  revision integer default null
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_label flywheel._labels;
  v_version flywheel._validator_versions;
begin
  v_label.trace_id := trace_id;
  v_label.span_id := coalesce(span_id, flywheel._no_span());
  v_label.passed := passed;
  v_label.gold_label := gold_label;
  v_label.score := score;
  v_label.reason := reason;
  v_label.corrected_output := corrected_output;
  v_label.source := source;
  v_label.sampling_probability := sampling_probability;
  v_label.labeler := coalesce(labeler, session_user);
  v_label.split := split;
  perform flywheel._check_label(v_label);

  if validator is not null then
    v_label.validator_id := flywheel._find_validator(validator);
  elsif corrected_output is null then
    raise exception 'the label names no validator'
      using errcode = 'LF002', hint = 'Name the validator it answers. Only a corrected_output may stand without one.';
  elsif version is not null then
    raise exception 'a version is given, and no validator'
      using errcode = 'LF002', hint = 'Name the validator, or leave version out.';
  end if;

  -- Retention does not remove it while it is being labelled.
  perform from flywheel.traces as t where t.trace_id = label.trace_id for key share;
  -- One row, read at once: the texts are those of the revision.
  if span_id is null then
    select t.revision, t.received_at, t.input, t.output, t.pipeline, t.attributes
    into v_label.revision, v_label.target_received_at, v_label.input, v_label.output,
      v_label.pipeline, v_label.attributes
    from flywheel.traces as t
    where t.trace_id = label.trace_id;
    if not found then
      raise exception 'there is no trace %', coalesce(trace_id::text, 'null')
        using errcode = 'LF004', hint = 'A label copies what it is about, so the trace must be in flywheel.traces.';
    end if;
  else
    select s.revision, s.received_at, s.input, s.output, t.pipeline, s.node, s.attributes
    into v_label.revision, v_label.target_received_at, v_label.input, v_label.output,
      v_label.pipeline, v_label.node, v_label.attributes
    from flywheel.spans as s
    left join flywheel.traces as t on t.trace_id = s.trace_id
    where s.trace_id = label.trace_id and s.span_id = label.span_id;
    if not found then
      raise exception 'there is no span % in the trace %', span_id, coalesce(trace_id::text, 'null')
        using errcode = 'LF004', hint = 'A label copies what it is about, so the span must be in flywheel.spans. Give the trace_id of its own trace.';
    end if;
  end if;
  if revision <> v_label.revision then
    raise exception 'the % is at revision %, and the label is about revision %',
      case when span_id is null then 'trace' else 'span' end, v_label.revision, revision
      using errcode = 'LF202', hint = 'Its texts have changed since they were read: look at them again, and give the revision you see.';
  end if;

  if validator is not null then
    v_version := flywheel._labelled_version(
      v_label.validator_id, version, v_label.trace_id, v_label.span_id, v_label.revision
    );
    if v_version.version_id is null then
      raise exception 'the validator % has no version %', quote_ident(validator), version
        using errcode = 'LF002', hint = 'Leave version out for the one that judged the target.';
    elsif v_version.subject = 'span' and span_id is null then
      raise exception 'the validator % judges spans, and the label is about a trace', quote_ident(validator)
        using errcode = 'LF002', hint = 'Add span_id => the span you have judged.';
    elsif v_version.subject = 'trace' and span_id is not null then
      raise exception 'the validator % judges traces, and the label is about a span', quote_ident(validator)
        using errcode = 'LF002', hint = 'Leave span_id out, or name a validator of spans.';
    end if;
    v_label.version_id := v_version.version_id;
  end if;

  v_label.split := flywheel._keep_split(trace_id, split);
  insert into flywheel._labels (
    trace_id, span_id, revision, validator_id, version_id, passed, gold_label, score, reason, corrected_output,
    labeler, source, split, sampling_probability, input, output, pipeline, node, attributes, target_received_at
  ) values (
    v_label.trace_id, v_label.span_id, v_label.revision, v_label.validator_id, v_label.version_id, v_label.passed,
    v_label.gold_label, v_label.score, v_label.reason, v_label.corrected_output, v_label.labeler, v_label.source,
    v_label.split, v_label.sampling_probability, v_label.input, v_label.output, v_label.pipeline, v_label.node,
    v_label.attributes, v_label.target_received_at
  )
  returning label_id into v_label.label_id;
  perform flywheel._sync_examples(v_label.trace_id, v_label.span_id);
  -- Where only labelled traces get a vector in the log, this one does now.
  insert into flywheel._arrivals (arrived_at, trace_ids)
  select flywheel.now(), array[v_label.trace_id]
  from flywheel._index_policy as p
  where p.policy <> 'all';
  return v_label.label_id;
end
$$;

comment on function flywheel.label(
  uuid, text, boolean, text, text, uuid, text, double precision, text, double precision, text, integer, text, integer
) is
  'Records what a person (or with source => ''llm_default'' a model, provisionally) says of a trace, or of a span if span_id is given: what the validator should have said (passed, gold_label, score) and, in corrected_output, what the output should have been. validator may be null for a correction alone. The label copies the target''s texts and names its revision; with revision => the one that was read, LF202 tells that it has changed since. A newer label takes the place of an older one; who labels the same target for the same validator at the same time waits, so label many in the order of their trace_id, or commit after each. The split is drawn once for a trace and all its spans; split forces it for the first label. Returns the label_id.';

create or replace function flywheel.withdraw_label(label_id bigint, reason text default null)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_label flywheel._labels;
begin
  -- The split is locked before anything of the label is, as label() and forget_trace() do it.
  select l.* into v_label
  from flywheel._labels as l
  join flywheel._label_splits as s on s.trace_id = l.trace_id
  where l.label_id = withdraw_label.label_id
  for key share of s;
  if not found then
    raise exception 'there is no label %', coalesce(label_id::text, 'null')
      using errcode = 'LF004', hint = 'flywheel.current_labels and flywheel.corrections show the label_id of each label.';
  end if;
  insert into flywheel._label_withdrawals (trace_id, label_id, reason)
  values (v_label.trace_id, v_label.label_id, withdraw_label.reason)
  on conflict do nothing;
  if not found then
    return false;
  end if;
  perform flywheel._sync_examples(v_label.trace_id, v_label.span_id);
  return true;
end
$$;

comment on function flywheel.withdraw_label(bigint, text) is
  'Has a label count no more; the one before it becomes the current one again. The label stays in the database, with who withdrew it and why. False if it was withdrawn before. A withdrawal cannot be taken back: label again.';
