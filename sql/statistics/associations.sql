-- Which validators matter: whether what they say goes with an outcome that the user names.

-- An outcome is a number or yes or no: of a trace, or of the target of a label or score.
create or replace function flywheel._outcomes(outcome text)
returns table (trace_id uuid, span_id uuid, value double precision)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
declare
  v_source constant text := split_part(outcome, '.', 1);
  v_name constant text := substr(outcome, length(v_source) + 2);
  v_version_id integer;
begin
  if v_name = '' or v_source not in ('attributes', 'label', 'score') or outcome is null then
    raise exception 'the outcome % is not known', coalesce(quote_literal(outcome), 'null')
      using errcode = 'LF002',
        hint = 'Name a number or boolean of a trace, ''attributes.order.returned''; what people say, ''label.<validator>''; or the score of a validator, ''score.<validator>''.';
  end if;
  if v_source = 'attributes' then
    return query
      select t.trace_id, null::uuid, case jsonb_typeof(a.value)
        when 'boolean' then a.value::boolean::integer::double precision
        else a.value::double precision
      end
      -- A key may have dots of its own.
      from flywheel.traces as t,
        lateral (select coalesce(t.attributes -> v_name, t.attributes #> string_to_array(v_name, '.')) as value) as a
      -- Beyond that, squares are no numbers any more.
      where case jsonb_typeof(a.value) when 'boolean' then true when 'number' then abs(a.value::numeric) < 1e150 else false end;
    return;
  end if;
  select n.version_id into v_version_id from flywheel._newest_versions as n where n.name = v_name;
  if not found then
    raise exception 'there is no validator "%"', v_name
      using errcode = 'LF003', hint = 'List them: select name from flywheel.validators';
  end if;
  if v_source = 'label' then
    return query
      select l.trace_id, l.span_id, coalesce(l.passed::integer::double precision, l.score)
      from flywheel._current_labels as l
      join flywheel._newest_versions as n on n.validator_id = l.validator_id and n.version_id = v_version_id
      where abs(coalesce(l.passed::integer::double precision, l.score)) < 1e150;
  else
    return query
      select v.trace_id, v.span_id, v.score
      from flywheel._verdicts as v
      where v.version_id = v_version_id and abs(v.score) < 1e150;
  end if;
end
$$;

comment on function flywheel._outcomes(text) is
  'The values of an outcome: of a trace where span_id is null, otherwise of a target.';

create or replace function flywheel.validator_associations(
  outcome text, pipeline text default null, since timestamptz default null
)
returns table (
  validator text,
  version integer,
  n bigint,
  failed bigint,
  mean_if_passed double precision,
  mean_if_failed double precision,
  correlation double precision,
  correlation_low double precision,
  correlation_high double precision
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  with decided as (
    -- Of several spans of a trace, all have to pass.
    select v.version_id, o.value, bool_and(v.status = 'passed') as passed
    from flywheel._outcomes(outcome) as o
    join flywheel._verdicts as v
      on v.trace_id = o.trace_id and (o.span_id is null or v.span_id = o.span_id) and v.status in ('passed', 'failed')
    join flywheel.traces as t on t.trace_id = o.trace_id
    where (validator_associations.pipeline is null or t.pipeline = validator_associations.pipeline)
      and (validator_associations.since is null or t.started_at >= validator_associations.since)
    group by v.version_id, o.trace_id, o.span_id, o.value
  ),
  -- Far from 0, what values have in common would cost the digits in which they differ.
  centred as (
    select d.*, d.value - avg(d.value) over (partition by d.version_id) as deviation from decided as d
  ),
  measured as (
    select d.version_id, count(*) as n, count(*) filter (where not d.passed) as failed,
      avg(d.value) filter (where d.passed) as mean_if_passed,
      avg(d.value) filter (where not d.passed) as mean_if_failed,
      case when min(d.value) < max(d.value) then corr(d.passed::integer, d.deviation) end as correlation
    from centred as d
    group by d.version_id
  )
  select w.name, w.version, m.n, m.failed, m.mean_if_passed, m.mean_if_failed, m.correlation, i.low, i.high
  from measured as m
  join flywheel._newest_versions as w on w.version_id = m.version_id
  cross join lateral flywheel._correlation_interval(m.correlation, m.n) as i
  where outcome is distinct from 'score.' || w.name
  order by abs(m.correlation) desc nulls last, w.name;
$$;

comment on function flywheel.validator_associations(text, text, timestamptz) is
  'Whether passing goes with an outcome: a number or boolean in the attributes of traces (''attributes.order.returned''), what people say (''label.<validator>'': whether it is good, or its score), or the score of a validator (''score.<validator>''). Per validator, for its newest version: how many traces or spans have both, the mean outcome of those that passed and of those that failed, and the correlation (point-biserial; phi for a boolean) with its 95 % interval. Strongest first.';
