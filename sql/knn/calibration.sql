-- From labelled rows to a threshold, and what to expect of it.
--
-- The threshold comes from the good rows alone: with n of them and j = floor(target * (n + 1)), it is the
-- similarity of the j-th nearest to failing. Another good row then fails with a probability of at most
-- j / (n + 1) <= target, whatever the similarities are distributed like, as long as it comes from where
-- they came (split conformal prediction: Vovk, Gammerman and Shafer 2005, 4.1).

create or replace function flywheel.calibrate_knn(
  validator text,
  target_false_alarm double precision default 0.05,
  out version integer,
  out threshold double precision,
  out split text,
  out good bigint,
  out false_alarm_rate double precision,
  out false_alarm_low double precision,
  out false_alarm_high double precision,
  out bad bigint,
  out detection_rate double precision,
  out detection_low double precision,
  out detection_high double precision,
  out auroc double precision
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions := flywheel._find_knn_validator(validator);
  v_change flywheel._validator_versions;
  v_rows flywheel._calibration_row[];
  v_needed bigint;
  v_known record;
  v_false_alarms bigint;
  v_detected bigint;
begin
  if target_false_alarm is null or not (target_false_alarm > 0 and target_false_alarm <= 0.5) then
    raise exception 'target_false_alarm is %', coalesce(target_false_alarm::text, 'null')
      using errcode = 'LF002', hint = 'Give the share of good rows that may fail, above 0 and at most 0.5.';
  end if;
  v_needed := ceil(1 / target_false_alarm::numeric) - 1;

  -- Rows of dev were never compared with; of train each is left out of what it is compared with.
  foreach split in array array['dev', 'train'] loop
    v_rows := flywheel._calibration_rows(v_version, split, split = 'train');
    select count(*) filter (where r.passed), count(*) filter (where not r.passed) into good, bad from unnest(v_rows) as r;
    exit when good >= v_needed;
  end loop;
  if good < v_needed then
    select count(*) filter (where l.split = 'dev') as dev, count(*) filter (where l.split = 'train') as train,
      (v_version.body <> 'anomaly' and not exists (
        select from flywheel._references as r where r.validator_id = v_version.validator_id
      )) as has_no_references
    into v_known
    from flywheel._current_labels as l
    where l.validator_id = v_version.validator_id and l.precedence = 3 and l.passed;
    raise exception 'a false alarm rate of % needs % good rows, and % has fewer', target_false_alarm, v_needed, quote_ident(validator)
      using errcode = 'LF106',
        detail = format('Labelled as passing: %s in the split dev, %s in train.', v_known.dev, v_known.train),
        hint = case
          when v_known.has_no_references then 'It has nothing to compare them with either: begin with flywheel.add_references().'
          else 'Label more rows that should pass with flywheel.label(), or give a greater target_false_alarm.'
        end;
  end if;
  if split = 'train' then
    raise notice 'the split dev has too few good rows, so the threshold comes from train, each row left out of what it is compared with';
  end if;

  -- Rounded towards passing.
  if v_version.body = 'nearest_attack' then
    select least((floor(g.similarity * 10000) + 1) / 10000, 1) into threshold
    from unnest(v_rows) as g where g.passed
    order by g.similarity desc offset floor(target_false_alarm::numeric * (good + 1)) - 1 limit 1;
  else
    select floor(g.similarity * 10000) / 10000 into threshold
    from unnest(v_rows) as g where g.passed
    order by g.similarity offset floor(target_false_alarm::numeric * (good + 1)) - 1 limit 1;
  end if;
  select count(*) filter (where r.passed), count(*) filter (where not r.passed) into v_false_alarms, v_detected
  from unnest(v_rows) as r
  where (r.similarity >= threshold) = (v_version.body = 'nearest_attack');

  false_alarm_rate := v_false_alarms / nullif(good, 0)::double precision;
  select w.centre - w.margin, w.centre + w.margin into false_alarm_low, false_alarm_high
  from flywheel._wilson_interval(v_false_alarms, nullif(good, 0)) as w;
  detection_rate := v_detected / nullif(bad, 0)::double precision;
  select w.centre - w.margin, w.centre + w.margin into detection_low, detection_high
  from flywheel._wilson_interval(v_detected, nullif(bad, 0)) as w;
  auroc := flywheel._auroc(
    array(select r.similarity * case v_version.body when 'nearest_attack' then -1 else 1 end from unnest(v_rows) as r where r.passed),
    array(select r.similarity * case v_version.body when 'nearest_attack' then -1 else 1 end from unnest(v_rows) as r where not r.passed)
  );

  v_change.params := v_version.params || jsonb_build_object('threshold', threshold);
  perform flywheel._alter_validator(validator, v_change, '{}');
  version := (flywheel._latest_version(v_version.validator_id)).version;
end
$$;

comment on function flywheel.calibrate_knn(text, double precision) is
  'Sets the threshold of a knn validator, as a new version, so that at most the share target_false_alarm of good rows fails, and tells what to expect of it: rates with 95 % Wilson intervals. From labels by people in the split dev; if they are too few, in train, each left out of what it is compared with.';

create or replace function flywheel._calibration_rows(version flywheel._validator_versions, split text, leave_out boolean)
returns flywheel._calibration_row[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_labels record;
begin
  select array_agg(l.passed) as passed, array_agg(l.pipeline) as pipelines, array_agg(l.trace_id) as trace_ids,
    array_agg(flywheel._hashed_part(case version.reads[1] when 'output' then l.output else l.input end)) as texts
  into v_labels
  from flywheel._current_labels as l
  where l.validator_id = version.validator_id and l.precedence = 3 and l.split = _calibration_rows.split
    and l.passed is not null;
  return array(
    select row (v_labels.passed[s.place], s.similarity)::flywheel._calibration_row
    from flywheel._knn_similarities(version, v_labels.texts, v_labels.pipelines, v_labels.trace_ids, leave_out) as s
    where v_labels.texts is not null
  );
end
$$;

comment on function flywheel._calibration_rows(flywheel._validator_versions, text, boolean) is
  'What people say of the labelled rows of a split, and their similarities. Rows without one are left out.';

-- Mann and Whitney (1947): the share of pairs in which the good row comes first, ties counting half.
create or replace function flywheel._auroc(good double precision[], bad double precision[])
returns double precision
language sql
immutable
parallel safe
begin atomic
  select (sum(r.rank) filter (where r.is_good) - n.good * (n.good + 1) / 2.0) / nullif(n.good * n.bad, 0)
  from (
    select s.is_good, rank() over (order by s.value) + (count(*) over (partition by s.value) - 1) / 2.0 as rank
    from (select true as is_good, unnest(good) as value union all select false, unnest(bad)) as s
  ) as r,
  (select cardinality(good)::double precision as good, cardinality(bad)::double precision as bad) as n
  group by n.good, n.bad;
end;

comment on function flywheel._auroc(double precision[], double precision[]) is
  'The probability that a good row has a greater value than a bad one: the area under the ROC curve; null if there are none of either.';
