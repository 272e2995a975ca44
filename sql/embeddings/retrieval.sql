-- Which examples a prompt gets.
--
--   weight = similarity * 2 ^ (-age / half_life) * (1 + disagreement_weight * disagreement)
--
-- then, one after the other, the one with the highest (1 - diversity) * weight - diversity * redundancy:
-- maximal marginal relevance (Carbonell and Goldstein 1998), redundancy being the greatest similarity to
-- an example chosen before.
--
-- Candidates are the most similar of every part of the store, which are in the order of time, and the
-- most recent: of every age those that can weigh most. Measured against all of the formula over 100,000
-- examples, at half-lives from a sixth of their age to twice that (bench/few_shot.py).

-- The vector of a text where that can be made here, else of hash: its stores are always there.
create or replace function flywheel._query_vector(
  query text, trace_id uuid, out embedder_id integer, out name text, out embedding flywheel._vector
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_active flywheel._embedders;
begin
  select e.* into v_active from flywheel._embedders as e where e.state = 'active';
  if v_active.provider <> 'hash' and trace_id is not null then
    select v.embedding into embedding
    from flywheel._vectors_of(v_active.embedder_id, 'log', array[trace_id]) as v
    join flywheel.traces as t on t.trace_id = _query_vector.trace_id and t.revision = v.revision
    where flywheel._text_to_embed(t.input, t.output) = query
    limit 1;
  end if;
  if embedding is null then
    if v_active.provider <> 'hash' then
      select e.* into strict v_active from flywheel._embedders as e where e.provider = 'hash';
    end if;
    embedding := flywheel._hash_vector(query);
  end if;
  embedder_id := v_active.embedder_id;
  name := v_active.name;
end
$$;

comment on function flywheel._query_vector(text, uuid) is
  'The vector of a text of a trace: that of the active embedder if it is in the log or can be made in the database, else that of hash; and which it is.';

-- Traces of one session quote each other.
create or replace function flywheel._excluded_sessions(not_trace uuid, not_session text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select array_remove(
    array[not_session, (select t.session_id from flywheel.traces as t where t.trace_id = not_trace)], null
  );
$$;

comment on function flywheel._excluded_sessions(uuid, text) is
  'The sessions nothing may be shown of: the one that is named and that of the trace.';

-- Half for each half-life; 1 without one, and for what is dated in the future. Below 2 ^ -1000 all are alike.
create or replace function flywheel._age_factor(age interval, half_life interval)
returns double precision
language sql
immutable
parallel safe
begin atomic
  -- GREATEST passes over nulls.
  select case
    when half_life is null then 1
    else 2 ^ greatest(-extract(epoch from greatest(age, interval '0'))::double precision / extract(epoch from half_life)::double precision, -1000)
  end;
end;

comment on function flywheel._age_factor(interval, interval) is 'What an example of this age still counts: 1 when it is new, 0.5 after a half-life; 1 without a half-life.';

create or replace function flywheel._has_approval(label_id bigint)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select exists (select from flywheel._example_approvals as a where a.label_id = _has_approval.label_id and a.is_approved);
$$;

comment on function flywheel._has_approval(bigint) is 'Whether the example that comes from this label was approved.';

-- The candidates with the highest weights, at most `pool`, heaviest first.
create or replace function flywheel._candidates(
  embedder_id integer, query flywheel._vector, kind text, validator_id integer, pool integer,
  half_life interval, disagreement_weight double precision, not_trace uuid, not_sessions text[], pipeline text, node text
)
returns flywheel._candidate[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_store constant text := flywheel._example_store(kind);
  v_scope constant text := flywheel._example_scope(kind, validator_id, pipeline);
  v_needs_approval constant boolean := flywheel._requires_example_approval();
  v_parts constant integer := (
    select count(*)
    from flywheel._vector_segments as s
    where s.embedder_id = _candidates.embedder_id and s.store = v_store and flywheel._is_searched(s)
  );
  -- How much the oldest has lost by its age.
  v_least_factor constant double precision := flywheel._age_factor(v_now - case kind
    when 'verdict' then (
      select e.created_at
      from flywheel._examples as e
      where e.kind = 'verdict' and e.validator_id = _candidates.validator_id
      order by e.created_at
      limit 1
    )
    else (select e.created_at from flywheel._examples as e where e.kind = 'correction' order by e.created_at limit 1)
  end, half_life);
  -- Of each part: where age counts little, 400 of all; else many of every age.
  v_wanted constant integer := greatest(
    pool / 2, case when v_least_factor >= 0.5 then ceil(400.0 / v_parts) else 400 end
  );
  v_similar uuid[];
  v_similarities double precision[];
  v_recent uuid[];
  v_recent_similarities double precision[];
  v_found flywheel._candidate[];
begin
  select array_agg(n.item_id), array_agg(n.similarity)
  into v_similar, v_similarities
  from flywheel._nearest(embedder_id, v_store, query, v_wanted, v_scope, each => true) as n;
  if v_least_factor < 0.5 then
    select array_agg(r.item_id), array_agg(r.similarity)
    into v_recent, v_recent_similarities
    from flywheel._recent(embedder_id, v_store, query, 400, v_scope) as r;
  end if;

  with streams as (
    select distinct on (s.example_id) s.example_id, s.similarity
    from rows from (unnest(v_similar || v_recent), unnest(v_similarities || v_recent_similarities)) as s (example_id, similarity)
    order by s.example_id
  ),
  weighed as (
    select e.example_id, e.passed, s.similarity,
      flywheel._age_factor(v_now - e.created_at, half_life) as age_factor,
      1 + disagreement_weight * coalesce(e.disagreement, 0) as disagreement_factor
    from streams as s
    join flywheel._examples as e on e.example_id = s.example_id
    where e.trace_id is distinct from not_trace
      and (e.session_id = any (not_sessions)) is not true
      and (_candidates.pipeline is null or e.pipeline = _candidates.pipeline)
      and (_candidates.node is null or e.node = _candidates.node)
      and (not v_needs_approval or flywheel._has_approval(e.label_id))
  )
  select array_agg(
    row (
      w.example_id, w.similarity, w.age_factor, w.disagreement_factor, w.weight, w.passed, null, null, null
    )::flywheel._candidate order by w.weight desc, w.example_id desc
  )
  into v_found
  from (
    select w.*, greatest(w.similarity, 0) * w.age_factor * w.disagreement_factor as weight
    from weighed as w
    order by 6 desc, w.example_id desc
    limit pool
  ) as w;
  return coalesce(v_found, array[]::flywheel._candidate[]);
end
$$;

comment on function flywheel._candidates(
  integer, flywheel._vector, text, integer, integer, interval, double precision, uuid, text[], text, text
) is
  'The heaviest examples for a query, found among the most similar of every age and the most recent.';

-- Greedy, over the few that are heaviest. With alternate, failing and passing ones in turn while there are both.
create or replace function flywheel._choose_diverse(candidates flywheel._candidate[], k integer, diversity double precision, alternate boolean)
returns flywheel._candidate[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_left flywheel._candidate[] := candidates;
  v_chosen flywheel._candidate[] := array[]::flywheel._candidate[];
  v_next integer;
  v_side boolean := false;
begin
  for v_i in 1..cardinality(v_left) loop
    v_left[v_i].redundancy := 0::double precision;
    v_left[v_i].score := (1 - diversity) * v_left[v_i].weight;
  end loop;
  while cardinality(v_chosen) < k and cardinality(v_left) > 0 loop
    select l.position::integer into v_next
    from unnest(v_left) with ordinality as l (
      example_id, similarity, age_factor, disagreement_factor, weight, passed, embedding, redundancy, score, position
    )
    order by alternate and l.passed <> v_side, l.score desc, l.position
    limit 1;
    v_chosen := v_chosen || v_left[v_next];
    v_left := v_left[:v_next - 1] || v_left[v_next + 1:];
    v_side := not v_side;
    if diversity > 0 and cardinality(v_chosen) < k then
      v_left := array(
        select row (
          l.example_id, l.similarity, l.age_factor, l.disagreement_factor, l.weight, l.passed, l.embedding, r.redundancy,
          (1 - diversity) * l.weight - diversity * r.redundancy
        )::flywheel._candidate
        from unnest(v_left) with ordinality as l (
          example_id, similarity, age_factor, disagreement_factor, weight, passed, embedding, redundancy, score, position
        ),
          lateral (
            select greatest(l.redundancy, flywheel._inner_product(l.embedding, v_chosen[cardinality(v_chosen)].embedding)) as redundancy
          ) as r
        order by l.position
      );
    end if;
  end loop;
  return v_chosen;
end
$$;

comment on function flywheel._choose_diverse(flywheel._candidate[], integer, double precision, boolean) is
  'Chooses k of the candidates by maximal marginal relevance.';
