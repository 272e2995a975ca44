-- What failing traces are about. Seeds are where many are close together; from there, spherical k-means
-- (Dhillon and Modha 2001, "Concept decompositions for large sparse text data using clustering").

-- Which of the vectors are in the middle of most others that nobody has claimed yet, one after the other.
-- Close is above the mean of the cosines by three standard deviations: what that comes to depends on
-- the embedder.
create or replace function flywheel._dense_seeds(vectors flywheel._vector[], most integer)
returns integer[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set jit = off
as $$
declare
  v_close double precision;
  v_from integer[];
  v_to integer[];
  v_seed integer;
  v_seeds integer[] := array[]::integer[];
  v_claimed integer[];
begin
  select avg(p.similarity) + 3 * stddev_pop(p.similarity) into v_close
  from (
    select flywheel._inner_product(a.embedding, b.embedding) as similarity
    from unnest(vectors[:300]) with ordinality as a (embedding, n)
    join unnest(vectors[:300]) with ordinality as b (embedding, n) on a.n < b.n
  ) as p;
  with pairs as materialized (
    select a.n::integer as one, b.n::integer as other
    from unnest(vectors) with ordinality as a (embedding, n)
    join unnest(vectors) with ordinality as b (embedding, n) on a.n < b.n
    where flywheel._inner_product(a.embedding, b.embedding) >= least(v_close, 0.999)
  )
  select array_agg(p.one), array_agg(p.other) into v_from, v_to
  from (select one, other from pairs union all select other, one from pairs) as p;
  while cardinality(v_seeds) < most and cardinality(v_from) > 0 loop
    select p.one, array_agg(p.other) || p.one into v_seed, v_claimed
    from unnest(v_from, v_to) as p (one, other)
    group by p.one
    order by count(*) desc, p.one
    limit 1;
    v_seeds := v_seeds || v_seed;
    select array_agg(p.one), array_agg(p.other) into v_from, v_to
    from unnest(v_from, v_to) as p (one, other)
    where p.one <> all (v_claimed) and p.other <> all (v_claimed);
  end loop;
  -- Where nothing is close to anything, there is one cluster.
  return case when v_seeds = '{}' then array[1] else v_seeds end;
end
$$;

comment on function flywheel._dense_seeds(flywheel._vector[], integer) is
  'Positions of vectors, at most so many, around which others gather, the most crowded first.';

create or replace function flywheel._nearest_centroid(vectors flywheel._vector[], centroids flywheel._vector[])
returns table (n integer, cluster integer, similarity double precision)
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set jit = off
as $$
  select distinct on (i.n) i.n::integer, c.cluster::integer, flywheel._inner_product(i.embedding, c.embedding)
  from unnest(vectors) with ordinality as i (embedding, n)
  cross join unnest(centroids) with ordinality as c (embedding, cluster)
  order by i.n, flywheel._inner_product(i.embedding, c.embedding) desc, c.cluster;
$$;

comment on function flywheel._nearest_centroid(flywheel._vector[], flywheel._vector[]) is
  'The centroid nearest to each vector, and their cosine.';

create or replace function flywheel._centroids(vectors flywheel._vector[], most integer)
returns flywheel._vector[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_centroids flywheel._vector[] := array(
    select vectors[s.seed] from unnest(flywheel._dense_seeds(vectors, most)) with ordinality as s (seed, n) order by s.n
  );
begin
  -- What changes after four rounds is of no account: on 400 questions of 8 intents, purity goes from .830
  -- to .872 with them and to .875 with ten.
  for v_round in 1 .. 4 loop
    v_centroids := array(
      select flywheel._centroid(array_agg(vectors[c.n]))
      from flywheel._nearest_centroid(vectors, v_centroids) as c
      group by c.cluster
      order by c.cluster
    );
  end loop;
  return v_centroids;
end
$$;

comment on function flywheel._centroids(flywheel._vector[], integer) is 'The centroids of at most so many clusters of vectors.';

-- Of the newest 100,000 traces, at most max_traces of each sort, chosen by a hash of their ids.
create or replace function flywheel._sample_judged(pipeline text, since timestamptz, max_traces integer)
returns table (trace_id uuid, failed boolean, total bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  with recent as materialized (
    select t.trace_id
    from flywheel.traces as t
    where t.received_at >= since and (_sample_judged.pipeline is null or t.pipeline = _sample_judged.pipeline)
    order by t.received_at desc
    limit 100000
  ),
  judged as (
    select r.trace_id, j.failed
    from recent as r
    -- Trace by trace, by its key, whatever is estimated.
    cross join lateral (
      select bool_or(v.status = 'failed') as failed
      from flywheel._verdicts as v
      where v.trace_id = r.trace_id and v.status in ('passed', 'failed')
        and v.version_id in (select n.version_id from flywheel._newest_versions as n)
    ) as j
    where j.failed is not null
  ),
  drawn as (
    select j.trace_id, j.failed, count(*) over (partition by j.failed) as total,
      row_number() over (partition by j.failed order by hashtextextended(j.trace_id::text, 0), j.trace_id) as place
    from judged as j
  )
  select d.trace_id, d.failed, d.total from drawn as d where d.place <= max_traces;
$$;

comment on function flywheel._sample_judged(text, timestamptz, integer) is
  'A repeatable sample of failing traces (the newest version of a validator failed them or a span of theirs) and of passing ones, with how many there are of each.';

-- A trace without a vector is left out, unless its vector can be made here.
create or replace function flywheel._described_traces(trace_ids uuid[])
returns table (trace_id uuid, pipeline text, input text, output text, embedding flywheel._vector)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
declare
  v_embedder constant flywheel._embedders := flywheel._active_embedder();
  v_lacking uuid[];
  v_texts text[];
begin
  return query
    select t.trace_id, t.pipeline, t.input, t.output, v.embedding
    from flywheel._vectors_of(v_embedder.embedder_id, 'log', trace_ids) as v
    join flywheel.traces as t on t.trace_id = v.item_id and t.revision = v.revision;
  if v_embedder.provider = 'hash' then
    select coalesce(array_agg(t.trace_id), '{}'), coalesce(array_agg(flywheel._text_to_embed(t.input, t.output)), '{}')
    into v_lacking, v_texts
    from flywheel.traces as t
    where t.trace_id = any (trace_ids)
      and not exists (
        select from flywheel._vectors_of(v_embedder.embedder_id, 'log', trace_ids) as v
        where v.item_id = t.trace_id and v.revision = t.revision
      );
    return query
      select t.trace_id, t.pipeline, t.input, t.output, m.embedding::flywheel._vector
      from rows from (unnest(v_lacking), unnest(flywheel._hash_vectors(v_texts))) as m (trace_id, embedding)
      join flywheel.traces as t on t.trace_id = m.trace_id
      where m.embedding is not null;
  end if;
end
$$;

comment on function flywheel._described_traces(uuid[]) is 'Traces with their texts, and their vectors by the active embedder.';

create or replace function flywheel._failures_of(trace_ids uuid[])
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select jsonb_object_agg(f.name, f.n)
  from (
    select r.name, count(distinct v.trace_id) as n
    from flywheel._verdicts as v
    join flywheel._newest_versions as r on r.version_id = v.version_id
    where v.trace_id = any (trace_ids) and v.status = 'failed'
    group by r.name
  ) as f;
$$;

comment on function flywheel._failures_of(uuid[]) is 'How many of these traces each validator failed.';

create or replace function flywheel.cluster_failures(
  pipeline text default null,
  since timestamptz default flywheel.now() - interval '7 days',
  max_clusters integer default 20,
  max_traces integer default 1000
)
returns table (
  cluster integer,
  failed bigint,
  passed bigint,
  failure_rate double precision,
  pipelines jsonb,
  validators jsonb,
  words text[],
  exemplars uuid[],
  example_input text,
  example_output text,
  similarity double precision
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set jit = off
as $$
#variable_conflict use_column
declare
  v_ids uuid[];
  v_failed boolean[];
  v_pipelines text[];
  v_texts text[];
  v_vectors flywheel._vector[];
  v_weights double precision[];
  v_centroids flywheel._vector[];
  v_failing integer;
begin
  if max_clusters is null or not max_clusters between 1 and 100 or max_traces is null or not max_traces between 1 and 2000 then
    raise exception 'max_clusters is %, max_traces is %', coalesce(max_clusters::text, 'null'), coalesce(max_traces::text, 'null')
      using errcode = 'LF002', hint = 'Give from 1 to 100 clusters and from 1 to 2000 traces.';
  end if;

  -- Failing ones first. Each stands for as many as there are to one in the sample.
  with sample as materialized (
    select s.* from flywheel._sample_judged(cluster_failures.pipeline, since, max_traces) as s
  ),
  described as (
    select d.*, s.failed, s.total::double precision / count(*) over (partition by s.failed) as weight
    from flywheel._described_traces(array(select s.trace_id from sample as s)) as d
    join sample as s on s.trace_id = d.trace_id
  )
  select array_agg(d.trace_id order by d.failed desc, d.trace_id), array_agg(d.failed order by d.failed desc, d.trace_id),
    array_agg(d.pipeline order by d.failed desc, d.trace_id), array_agg(d.weight order by d.failed desc, d.trace_id),
    array_agg(concat_ws(' ', left(d.input, 2000), left(d.output, 2000)) order by d.failed desc, d.trace_id),
    array_agg(d.embedding order by d.failed desc, d.trace_id), count(*) filter (where d.failed)
  into v_ids, v_failed, v_pipelines, v_weights, v_texts, v_vectors, v_failing
  from described as d;
  if coalesce(v_failing, 0) = 0 then
    return;
  end if;
  v_centroids := flywheel._centroids(v_vectors[:v_failing], least(max_clusters, ceil(sqrt(v_failing / 2.0)))::integer);

  return query
    with placed as materialized (
      select c.cluster as home, c.similarity as nearness, v_ids[c.n] as id, v_failed[c.n] as is_failed, v_pipelines[c.n] as of_pipeline,
        v_weights[c.n] as weight, v_texts[c.n] as content
      from flywheel._nearest_centroid(v_vectors, v_centroids) as c
    ),
    sized as (
      select p.home, sum(p.weight) filter (where p.is_failed) as failed, coalesce(sum(p.weight) filter (where not p.is_failed), 0) as passed,
        avg(p.nearness) filter (where p.is_failed) as nearness,
        array_agg(p.id order by p.nearness desc, p.id) filter (where p.is_failed) as ids
      from placed as p
      group by p.home
      having bool_or(p.is_failed)
    ),
    by_pipeline as (
      select b.home, jsonb_object_agg(b.of_pipeline, b.n) as counts
      from (select p.home, p.of_pipeline, count(*) as n from placed as p where p.is_failed group by p.home, p.of_pipeline) as b
      group by b.home
    )
    select
      row_number() over (order by s.failed desc, s.home)::integer,
      round(s.failed)::bigint,
      round(s.passed)::bigint,
      s.failed / (s.failed + s.passed),
      b.counts,
      flywheel._failures_of(s.ids),
      coalesce(w.words, '{}'),
      s.ids[:3],
      left(t.input, 500),
      left(t.output, 500),
      s.nearness
    from sized as s
    join by_pipeline as b on b.home = s.home
    join flywheel.traces as t on t.trace_id = s.ids[1]
    left join flywheel._telling_words(
      array(select case when p.is_failed then p.home else 0 end from placed as p order by p.id),
      array(select p.content from placed as p order by p.id), 8
    ) as w on w.group_number = s.home
    order by 1;
end
$$;

comment on function flywheel.cluster_failures(text, timestamptz, integer, integer) is
  'What failing traces are about: those that the newest version of a validator failed, since a time, clustered by the vectors of their texts, the largest cluster first. Looks at the newest 100,000 traces, and of them at most max_traces failing and as many passing ones, chosen by a hash of their ids; counts are scaled up from there.';
