-- The verdicts of nearest-neighbour validators, in batches: what _call_python() is for Python.

create or replace function flywheel._knn_query(versions integer[], rows_query text, purpose text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select string_agg(
    format(
      $query$
    select b.trace_ids[o.n] as trace_id, b.span_ids[o.n] as span_id, b.dimension_ids[o.n] as dimension_id,
      b.revisions[o.n] as revision, %1$s as version_id, %2$s as code, o.score,
      case when o.code operator(pg_catalog.<>) 2::pg_catalog.int2 then o.reason end as reason, o.error,
      case when o.code operator(pg_catalog.=) 2::pg_catalog.int2 then o.reason end as skipped_reason,
      null::pg_catalog.text as predicted_label, null::pg_catalog.float4 as confidence, null::pg_catalog.jsonb as details
    from (
      select pg_catalog.array_agg(n.trace_id) as trace_ids, pg_catalog.array_agg(n.span_id) as span_ids,
        pg_catalog.array_agg(n.dimension_id) as dimension_ids, pg_catalog.array_agg(n.revision) as revisions,
        pg_catalog.array_agg(n.pipeline) as pipelines, %3$s as statuses,
        pg_catalog.array_agg(flywheel._hashed_part(n.%4$I)) as texts
      from (
        select n.*,
          (pg_catalog.row_number() over (rows unbounded preceding) operator(pg_catalog.-) 1) operator(pg_catalog./) 1000 as batch
        from (%5$s
        ) as n%6$s
      ) as n%7$s
      group by n.batch
    ) as b,
    lateral pg_catalog.unnest(flywheel._call_knn(%1$s, b.texts, b.pipelines, b.trace_ids)) with ordinality as o (code, score, reason, error, n)$query$,
      v.version_id,
      case
        when purpose = 'insert' and 'reject' in (v.on_fail, v.on_error) then format(
          '(flywheel._enforce(row (o.code, o.score, o.reason, o.error)::flywheel._outcome, %L, %L, %L, %L, b.trace_ids[o.n], %s, b.statuses[o.n])).code',
          d.name, v.on_fail, v.on_error, coalesce(v.description, 'the rule ' || v.body),
          case v.subject when 'span' then 'b.span_ids[o.n]' else 'null' end
        )
        else 'o.code'
      end,
      case
        when purpose = 'insert' and 'reject' in (v.on_fail, v.on_error) then 'pg_catalog.array_agg(n.status)'
        else 'null::pg_catalog.text[]'
      end,
      v.reads[1],
      rows_query,
      flywheel._dimension_condition(purpose),
      case when cardinality(f.filters) > 0 then E'\n      where ' || array_to_string(f.filters, ' and ') else '' end
    ),
    E'\n    union all' order by v.version_id
  )
  from flywheel._validator_versions as v
  join flywheel._validators as d on d.validator_id = v.validator_id,
    lateral flywheel._version_filters(v, 'n', purpose) as f (filters)
  where v.version_id = any (versions);
$$;

comment on function flywheel._knn_query(integer[], text, text) is
  'A query giving one row per verdict of these nearest-neighbour validator versions over these rows, run in batches.';

-- Whatever happens in here is an error verdict, and the statement goes on. The block writes nothing,
-- so its subtransaction has no id.
create or replace function flywheel._call_knn(version_id integer, texts text[], pipelines text[], trace_ids uuid[])
returns flywheel._outcome[]
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
declare
  v_version flywheel._validator_versions;
begin
  select v.* into strict v_version from flywheel._validator_versions as v where v.version_id = _call_knn.version_id;
  return array(
    select flywheel._knn_outcome(v_version, t.text, s.similarity, s.nearest)
    from unnest(texts) with ordinality as t (text, place)
    left join flywheel._knn_similarities(v_version, texts, pipelines, trace_ids) as s on s.place = t.place
    order by t.place
  );
exception when others or assert_failure then
  return array_fill(row (3::smallint, null, null, left(sqlerrm, 1000))::flywheel._outcome, array[cardinality(texts)]);
end
$$;

comment on function flywheel._call_knn(integer, text[], text[], uuid[]) is
  'The outcomes of a nearest-neighbour validator version for a batch of texts; a failure of the call is an error for each.';

-- What is quoted: given texts. A text that somebody else wrote is not shown to whoever sees this verdict,
-- and could not be forgotten in it: it is named by its trace.
create or replace function flywheel._knn_similarities(
  version flywheel._validator_versions, texts text[], pipelines text[], trace_ids uuid[], leave_out boolean default false
)
returns table (place bigint, similarity double precision, nearest text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_params constant jsonb := flywheel._knn_default_params(version.body) || version.params;
  v_k constant integer := (v_params ->> 'k')::numeric::integer;
begin
  if version.body = 'anomaly' then
    return query
      select s.place, s.similarity, 'trace ' || s.trace_id
      from flywheel._nearest_recent(v_k, flywheel.now() - (v_params ->> 'window')::interval, texts, pipelines, trace_ids) as s;
  else
    return query
      select s.place, s.similarity, case when e.example_id is null then flywheel._shortened(r.text) else 'trace ' || e.trace_id end
      from flywheel._nearest_references(version.validator_id, v_k, texts, leave_out) as s
      join flywheel._references as r on r.reference_id = s.reference_id
      left join flywheel._examples as e on e.example_id = r.example_id;
  end if;
end
$$;

comment on function flywheel._knn_similarities(flywheel._validator_versions, text[], text[], uuid[], boolean) is
  'How near each text is to what a validator compares with, and in words what is nearest.';

create or replace function flywheel._shortened(content text)
returns text
language sql
immutable
parallel safe
begin atomic
  select '"' || case when length(content) > 60 then left(content, 59) || '…' else content end || '"'
  from (select btrim(regexp_replace(left(content, 200), '\s+', ' ', 'g')) as content) as s;
end;

comment on function flywheel._shortened(text) is 'The beginning of a text, in quotes, on one line.';

create or replace function flywheel._knn_outcome(
  version flywheel._validator_versions, content text, similarity double precision, nearest text
)
returns flywheel._outcome
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_outcome flywheel._outcome;
  v_threshold constant double precision := (version.params ->> 'threshold')::double precision;
begin
  v_outcome.code := 2;
  v_outcome.score := similarity;
  if content is null then
    v_outcome.reason := version.reads[1] || ' is null';
  elsif content !~ '\S' then
    v_outcome.reason := version.reads[1] || ' is blank';
  elsif similarity is null and version.body = 'anomaly' then
    v_outcome.reason := 'fewer than 30 recent inputs to compare with';
  elsif similarity is null then
    v_outcome.reason := 'no reference texts to compare with: flywheel.add_references()';
  elsif v_threshold is null then
    v_outcome.reason := 'no threshold yet: flywheel.calibrate_knn()';
  else
    v_outcome.code := ((similarity >= v_threshold) = (version.body <> 'nearest_attack'))::integer;
    v_outcome.reason := format(
      'similarity %s is %s %s; nearest: %s',
      round(similarity::numeric, 3), case when similarity >= v_threshold then 'at least' else 'below' end, v_threshold, nearest
    );
  end if;
  return v_outcome;
end
$$;

comment on function flywheel._knn_outcome(flywheel._validator_versions, text, double precision, text) is
  'The outcome for a text of this similarity: without a threshold there is a score and no verdict.';
