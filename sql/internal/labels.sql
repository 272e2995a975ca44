-- What label() is made of: its checks, the version a label is about, and the split of its trace.

create or replace function flywheel._check_label(label flywheel._labels)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if num_nonnulls(label.passed, label.gold_label, label.score, label.corrected_output) = 0 then
    raise exception 'the label says nothing'
      using errcode = 'LF002', hint = 'Give at least one of passed, gold_label, score and corrected_output.';
  end if;
  if btrim(label.gold_label) = '' then
    raise exception 'gold_label is blank' using errcode = 'LF002', hint = 'Give the true class, or leave gold_label out.';
  end if;
  if btrim(label.corrected_output) = '' then
    raise exception 'corrected_output is blank'
      using errcode = 'LF002', hint = 'Give what the output should have been, or leave corrected_output out.';
  end if;
  if label.score in ('NaN', 'Infinity', '-Infinity') then
    raise exception 'score is %', label.score using errcode = 'LF002', hint = 'Give a finite number, or leave score out.';
  end if;
  if label.source is null or label.source not in ('human', 'llm_default', 'human_confirmed', 'human_edited') then
    raise exception 'source is %', coalesce(quote_literal(label.source), 'null')
      using errcode = 'LF002',
        hint = 'Use ''human'', ''llm_default'' (a model''s proposal), ''human_confirmed'' or ''human_edited'' (a proposal that a person accepted or changed).';
  end if;
  if not (label.sampling_probability > 0 and label.sampling_probability <= 1) then
    raise exception 'sampling_probability is %', label.sampling_probability
      using errcode = 'LF002', hint = 'Give the probability with which the target was chosen for labeling: above 0 and at most 1.';
  end if;
  if label.split not in ('train', 'dev', 'test') then
    raise exception 'split is %', quote_literal(label.split)
      using errcode = 'LF002', hint = 'Leave split out to have it drawn, or use ''train'', ''dev'' or ''test''.';
  end if;
  if btrim(label.labeler) = '' then
    raise exception 'labeler is blank'
      using errcode = 'LF002', hint = 'Give the name of who judged, or leave labeler out for the role that is logged in.';
  end if;
end
$$;

comment on function flywheel._check_label(flywheel._labels) is
  'Refuses values of a label that make no sense, saying what to give instead.';

-- The version whose verdict the labeler may have seen, so that the two can be compared.
create or replace function flywheel._labelled_version(
  validator_id integer, version integer, trace_id uuid, span_id uuid, revision integer
)
returns flywheel._validator_versions
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select v
  from flywheel._validator_versions as v
  left join flywheel._verdicts as d
    on d.version_id = v.version_id
    and d.trace_id = _labelled_version.trace_id
    and d.span_id = _labelled_version.span_id
    and d.revision = _labelled_version.revision
  where v.validator_id = _labelled_version.validator_id
    and (_labelled_version.version is null or v.version = _labelled_version.version)
  order by d.version_id is null, v.version desc
  limit 1;
$$;

comment on function flywheel._labelled_version(integer, integer, uuid, uuid, integer) is
  'The version of a validator that a label is about: the given one, or the newest with a verdict about the target, or the newest. Null if there is no such version.';

-- By the trace alone: a span and its trace quote each other, so neither may be an example for the
-- judge while the other tests it. The seed is another than that of _is_sampled(): what was sampled
-- is split like the rest.
create or replace function flywheel._draw_split(trace_id uuid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_setting constant text := coalesce(nullif(btrim(current_setting('flywheel.label_splits', true)), ''), '40/30/30');
  v_shares integer[];
  v_place constant bigint := (uuid_hash_extended(trace_id, 4) & 9223372036854775807) % 100;
begin
  if v_setting ~ '^\d{1,3} */ *\d{1,3} */ *\d{1,3}$' then
    v_shares := string_to_array(v_setting, '/')::integer[];
  end if;
  if v_shares is null or v_shares[1] + v_shares[2] + v_shares[3] <> 100 then
    raise exception 'the setting flywheel.label_splits is %', quote_literal(v_setting)
      using errcode = 'LF002',
        hint = format(
          'Give the shares of train, dev and test as whole percentages that add up to 100: alter database %I set flywheel.label_splits = ''40/30/30''',
          current_database()
        );
  end if;
  return case
    when v_place < v_shares[1] then 'train'
    when v_place < v_shares[1] + v_shares[2] then 'dev'
    else 'test'
  end;
end
$$;

comment on function flywheel._draw_split(uuid) is
  'The split a trace would be given now: a hash of its id, cut by the setting flywheel.label_splits (train/dev/test in percent).';

create or replace function flywheel._keep_split(trace_id uuid, forced text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_split text;
begin
  select s.split into v_split from flywheel._label_splits as s where s.trace_id = _keep_split.trace_id;
  if v_split is null then
    -- Waits for another session that is drawing for the same trace, and then finds its row.
    insert into flywheel._label_splits (trace_id, split)
    values (_keep_split.trace_id, coalesce(forced, flywheel._draw_split(_keep_split.trace_id)))
    on conflict do nothing;
    select s.split into strict v_split from flywheel._label_splits as s where s.trace_id = _keep_split.trace_id;
  end if;
  if forced <> v_split then
    raise exception 'the trace % is in the split %, not %', trace_id, v_split, forced
      using errcode = 'LF002',
        hint = 'Leave split out. The first label of a trace or of one of its spans fixes the split for good, so that no example comes from what is tested.';
  end if;
  return v_split;
end
$$;

comment on function flywheel._keep_split(uuid, text) is
  'The split of a trace; drawn and kept, or set to what is asked for, if it has none yet.';
