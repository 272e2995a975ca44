-- Examples for the judge's prompt. The defaults are documented in docs/explanation/examples-and-index.md, with
-- what was measured of them.

create or replace function flywheel._check_retrieval(
  k integer, half_life interval, disagreement_weight double precision, diversity double precision
)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if k is null or not k between 0 and 100 then
    raise exception 'k is %', coalesce(k::text, 'null') using errcode = 'LF002', hint = 'Give the number of examples, from 0 to 100.';
  end if;
  if half_life <= interval '0' then
    raise exception 'half_life is %', half_life
      using errcode = 'LF002', hint = 'Give the age at which an example counts half, for example interval ''90 days''; null for no decay.';
  end if;
  if disagreement_weight is null or not disagreement_weight between 0 and 100 then
    raise exception 'disagreement_weight is %', coalesce(disagreement_weight::text, 'null')
      using errcode = 'LF002', hint = 'Give a number from 0 (no preference) to 100.';
  end if;
  if diversity is null or not diversity between 0 and 1 then
    raise exception 'diversity is %', coalesce(diversity::text, 'null')
      using errcode = 'LF002', hint = 'Give a number from 0 (the heaviest, however alike) to 1.';
  end if;
end
$$;

comment on function flywheel._check_retrieval(integer, interval, double precision, double precision) is
  'Refuses parameters of a retrieval that make no sense.';

-- What few_shot() and its kin are made of. With alternate, as judges are shown them.
create or replace function flywheel._few_shot(
  embedder_id integer, query flywheel._vector, kind text, validator_id integer, k integer, half_life interval,
  disagreement_weight double precision, diversity double precision, not_trace uuid, not_session text,
  pipeline text, node text, alternate boolean
)
returns flywheel._candidate[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set jit = off
as $$
declare
  -- The choice is made among these; measured, it is that among all.
  v_pool constant integer := case when diversity > 0 or alternate then greatest(8 * k, 32) else k end;
  v_not_sessions constant text[] := flywheel._excluded_sessions(not_trace, not_session);
  v_needs_approval constant boolean := flywheel._requires_example_approval();
  v_found flywheel._candidate[];
begin
  if k = 0 then
    return array[]::flywheel._candidate[];
  end if;
  if query is null then
    v_found := array[]::flywheel._candidate[];
  else
    v_found := flywheel._candidates(
      embedder_id, query, kind, validator_id, v_pool,
      half_life, disagreement_weight, not_trace, v_not_sessions, pipeline, node
    );
  end if;
  if alternate then
    -- Of a side that is rare, or where there is nothing to compare, the newest.
    v_found := v_found || array(
      select row (n.example_id, 0, 1, 1, 0, n.passed, null, null, null)::flywheel._candidate
      from unnest(array[false, true]) as s (passed),
        lateral (
          select e.example_id, e.passed
          from flywheel._examples as e
          where e.kind = 'verdict' and e.validator_id = _few_shot.validator_id and e.passed = s.passed
            and e.trace_id is distinct from not_trace
            and (e.session_id = any (v_not_sessions)) is not true
            and (not v_needs_approval or flywheel._has_approval(e.label_id))
          order by e.created_at desc, e.label_id desc
          limit k
        ) as n
      where not exists (select from unnest(v_found) as f where f.passed = s.passed)
    );
  end if;
  if diversity > 0 and cardinality(v_found) > 1 then
    v_found := array(
      select row (
        c.example_id, c.similarity, c.age_factor, c.disagreement_factor, c.weight, c.passed, v.embedding, c.redundancy, c.score
      )::flywheel._candidate
      from unnest(v_found) with ordinality as c (
        example_id, similarity, age_factor, disagreement_factor, weight, passed, embedding, redundancy, score, position
      )
      left join (
        select distinct on (o.item_id) o.item_id, o.embedding
        from flywheel._vectors_of(embedder_id, flywheel._example_store(kind), array(select f.example_id from unnest(v_found) as f)) as o
        order by o.item_id
      ) as v on v.item_id = c.example_id
      order by c.position
    );
  end if;
  return flywheel._choose_diverse(v_found, k, diversity, alternate);
end
$$;

comment on function flywheel._few_shot(
  integer, flywheel._vector, text, integer, integer, interval, double precision, double precision, uuid, text, text, text, boolean
) is 'The k examples for a query, chosen.';

create or replace function flywheel.few_shot(
  validator text,
  query text,
  k integer default 4,
  half_life interval default null,
  disagreement_weight double precision default 0,
  diversity double precision default 0.2,
  exclude_trace uuid default null,
  exclude_session text default null
)
returns table (
  trace_id uuid,
  span_id uuid,
  input text,
  output text,
  passed boolean,
  reason text,
  similarity double precision,
  weight double precision,
  label_id bigint,
  embedder text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
begin
  return query
    select f.trace_id, f.span_id, f.input, f.output, f.passed, f.reason, f.similarity, f.weight, f.label_id, f.embedder
    from flywheel.explain_few_shot(
      few_shot.validator, query, k, half_life, disagreement_weight, diversity, exclude_trace, exclude_session
    ) as f
    order by f.place;
end
$$;

comment on function flywheel.few_shot(text, text, integer, interval, double precision, double precision, uuid, text) is
  'The k labelled examples of a validator that matter most for a query, for the judge''s prompt: by similarity, by age if half_life is given (an example of that age counts half), by how far the validator''s verdict was from the label (disagreement_weight), and unlike each other (diversity, from 0 to 1). Only labels that a person made or confirmed, in the split train. With exclude_trace, nothing of that trace or its session; with exclude_session, nothing of that one. An embedder that is not in the database cannot embed a new query here: hash is asked instead, as the column embedder tells.';

create or replace function flywheel.explain_few_shot(
  validator text,
  query text,
  k integer default 4,
  half_life interval default null,
  disagreement_weight double precision default 0,
  diversity double precision default 0.2,
  exclude_trace uuid default null,
  exclude_session text default null
)
returns table (
  place integer,
  label_id bigint,
  trace_id uuid,
  span_id uuid,
  input text,
  output text,
  passed boolean,
  reason text,
  similarity double precision,
  age interval,
  age_factor double precision,
  disagreement real,
  disagreement_factor double precision,
  weight double precision,
  redundancy double precision,
  score double precision,
  source text,
  labeler text,
  embedder text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
declare
  v_validator_id constant integer := flywheel._find_validator(explain_few_shot.validator);
  v_query record;
begin
  perform flywheel._check_retrieval(k, half_life, disagreement_weight, diversity);
  v_query := flywheel._query_vector(query, exclude_trace);
  return query select * from flywheel._explained(
    v_query.name,
    flywheel._few_shot(
      v_query.embedder_id, v_query.embedding, 'verdict', v_validator_id, k, half_life, disagreement_weight, diversity,
      exclude_trace, exclude_session, null, null, false
    )
  );
end
$$;

comment on function flywheel.explain_few_shot(text, text, integer, interval, double precision, double precision, uuid, text) is
  'What few_shot() returns and why, in the order of choice: weight = similarity * age_factor * disagreement_factor, score = (1 - diversity) * weight - diversity * redundancy, where redundancy is the greatest similarity to an example chosen before.';

create or replace function flywheel._explained(embedder text, chosen flywheel._candidate[])
returns table (
  place integer, label_id bigint, trace_id uuid, span_id uuid, input text, output text, passed boolean, reason text,
  similarity double precision, age interval, age_factor double precision, disagreement real,
  disagreement_factor double precision, weight double precision, redundancy double precision, score double precision,
  source text, labeler text, embedder text
)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select c.position::integer, e.label_id, e.trace_id, nullif(e.span_id, flywheel._no_span()), e.input, e.output, e.passed,
    e.reason, c.similarity, flywheel.now() - e.created_at, c.age_factor, e.disagreement, c.disagreement_factor, c.weight,
    c.redundancy, c.score, e.source, e.labeler, _explained.embedder
  from unnest(chosen) with ordinality as c (
    example_id, similarity, age_factor, disagreement_factor, weight, passed, embedding, redundancy, score, position
  )
  join flywheel._examples as e on e.example_id = c.example_id
  order by c.position;
$$;

comment on function flywheel._explained(text, flywheel._candidate[]) is 'Chosen examples with their texts and factors.';

create or replace function flywheel._check_vector(embedder flywheel._embedders, query flywheel._vector)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_dimensions constant integer := flywheel._dimensions_of(query);
begin
  if query is null then
    raise exception 'the vector is null'
      using errcode = 'LF002', hint = format('Give a vector of %s dimensions, made by %s.', embedder.dimensions, quote_ident(embedder.name));
  elsif v_dimensions <> embedder.dimensions then
    raise exception 'the vector has % dimensions, and the active embedder % makes %', v_dimensions, quote_ident(embedder.name), embedder.dimensions
      using errcode = 'LF002', hint = 'Embed the query with the same model: flywheel.embedders says which.';
  end if;
end
$$;

comment on function flywheel._check_vector(flywheel._embedders, flywheel._vector) is 'Refuses a vector that is not of this embedder.';

create or replace function flywheel._active_embedder()
returns flywheel._embedders
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select e from flywheel._embedders as e where e.state = 'active';
$$;

comment on function flywheel._active_embedder() is 'The embedder whose stores are searched.';
