-- Embedders and the index policy: what an engineer chooses.

-- A text by itself can be embedded here by hash alone.
create or replace function flywheel.embed(text text)
returns vector
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_active constant flywheel._embedders := flywheel._active_embedder();
begin
  if v_active.provider <> 'hash' then
    raise exception 'the active embedder % is not in the database', quote_ident(v_active.name)
      using errcode = 'LF105',
        hint = 'Embed the text with its model in your application, and use the functions that end in _by_vector. flywheel.few_shot() and flywheel.similar_corrections() answer by hash.';
  end if;
  return flywheel._hash_vector(embed.text);
end
$$;

comment on function flywheel.embed(text) is
  'The vector of a text, of length 1, made by the active embedder in the database; null for a blank text. LF105 if that embedder is not in the database: no call is made from here.';

create or replace function flywheel.create_embedder(
  name text,
  provider text,
  dimensions integer,
  model text default null,
  half boolean default false,
  max_chars integer default 8000
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if btrim(coalesce(name, '')) = '' or length(name) > 200 then
    raise exception 'an embedder needs a name of 1 to 200 characters' using errcode = 'LF002', hint = 'For example: ''openai-small''.';
  end if;
  if provider is null or provider not in ('openai', 'local') then
    raise exception 'the provider % is not one that can be created', coalesce(quote_literal(provider), 'null')
      using errcode = 'LF002', hint = 'Use ''openai'' (any endpoint that speaks its embeddings) or ''local'' (a model of sentence-transformers in the worker). hash is built in.';
  end if;
  if dimensions is null or not dimensions between 1 and (case when half then 4000 else 2000 end) then
    raise exception 'dimensions is %', coalesce(dimensions::text, 'null')
      using errcode = 'LF002', hint = 'Give the length of the model''s vectors: up to 2000, or 4000 with half => true.';
  end if;
  if max_chars is null or not max_chars between 100 and 1000000 then
    raise exception 'max_chars is %', coalesce(max_chars::text, 'null')
      using errcode = 'LF002', hint = 'Give how much of a long text the model can read, from 100 to 1000000 characters.';
  end if;
  if btrim(coalesce(model, '')) = '' then
    raise exception 'the embedder needs a model'
      using errcode = 'LF002',
        hint = case provider when 'openai' then 'Create one with flywheel.create_model() and give its name.' else 'Give the name or the folder of a model of sentence-transformers.' end;
  end if;
  if provider = 'openai' then
    perform flywheel._find_model(model);
  end if;
  insert into flywheel._embedders (name, provider, dimensions, model, is_half, max_chars)
  values (name, provider, dimensions, model, half, max_chars)
  on conflict on constraint _embedders_name_key do nothing;
  if not found then
    raise exception 'there is an embedder % already', quote_ident(name)
      using errcode = 'LF201', hint = 'Drop it first, or give another name: its vectors would not be those of the other model.';
  end if;
end
$$;

comment on function flywheel.create_embedder(text, text, integer, text, boolean, integer) is
  'Names a model that turns texts into vectors: provider openai (model is one of flywheel.create_model(), with its limits and key) or local (a model of sentence-transformers, in the worker). half stores vectors in half precision. Nothing is embedded until flywheel.use_embedder().';

create or replace function flywheel.use_embedder(name text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_embedder flywheel._embedders;
  v_building flywheel._embedders;
begin
  perform flywheel._begin_change();
  v_embedder := flywheel._find_embedder(name);
  select e.* into v_building from flywheel._embedders as e where e.state = 'building';
  if v_building.embedder_id is distinct from v_embedder.embedder_id and v_building.embedder_id is not null then
    perform flywheel._retire_embedder(v_building);
  end if;
  if v_embedder.state = 'ready' then
    perform flywheel._drop_stores(v_embedder);  -- what is left of an earlier use has missed what came since
    perform flywheel._create_store(v_embedder, 'log');
    perform flywheel._create_store(v_embedder, 'examples');
    perform flywheel._create_store(v_embedder, 'corrections');
    -- From the smallest id; what arrives from now on is seen to besides.
    update flywheel._embedders as e
    set state = 'building', backfilled_to = flywheel._no_span(), retired_at = null
    where e.embedder_id = v_embedder.embedder_id;
    delete from flywheel._embedder_states as s where s.embedder_id = v_embedder.embedder_id;
    if v_embedder.provider <> 'hash' then
      perform flywheel._enqueue_embeddings(v_embedder.embedder_id, k.store, k.example_ids, 1)
      from (
        select flywheel._example_store(x.kind) as store, array_agg(x.example_id) as example_ids
        from flywheel._examples as x
        group by 1
      ) as k;
    end if;
  end if;
  perform flywheel._compile();
  return (select e.state from flywheel._embedders as e where e.embedder_id = v_embedder.embedder_id);
end
$$;

comment on function flywheel.use_embedder(text) is
  'Switches to another embedder: its index is built beside the present one, in the background, and takes its place when it is complete; until then the present one answers. A switch under way to yet another is given up. Returns its state: building, or active.';

create or replace function flywheel.drop_embedder(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_embedder constant flywheel._embedders := flywheel._find_embedder(name);
begin
  if v_embedder.state = 'active' then
    raise exception '% is the active embedder', quote_ident(name)
      using errcode = 'LF203', hint = 'Switch to another first: select flywheel.use_embedder(''hash'').';
  elsif v_embedder.provider = 'hash' then
    raise exception 'hash is built in' using errcode = 'LF203', hint = 'It answers when no other embedder can.';
  end if;
  perform flywheel._drop_stores(v_embedder);
  delete from flywheel._embedders as e where e.embedder_id = v_embedder.embedder_id;
end
$$;

comment on function flywheel.drop_embedder(text) is 'Removes an embedder that is not active, with what it has built.';

create or replace function flywheel.set_index_policy(policy text, sample_rate double precision default 1)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if policy is null or policy not in ('all', 'sample', 'labelled') then
    raise exception 'the policy % is unknown', coalesce(quote_literal(policy), 'null')
      using errcode = 'LF002', hint = 'Use ''all'', ''sample'' (with sample_rate) or ''labelled'' (only traces that have a label).';
  end if;
  if sample_rate is null or not (sample_rate > 0 and sample_rate <= 1) then
    raise exception 'sample_rate is %', coalesce(sample_rate::text, 'null')
      using errcode = 'LF002', hint = 'Give the share of traces, above 0 and at most 1.';
  end if;
  perform flywheel._begin_change();
  update flywheel._index_policy as p set policy = set_index_policy.policy, sample_rate = set_index_policy.sample_rate;
  perform flywheel._compile();
end
$$;

comment on function flywheel.set_index_policy(text, double precision) is
  'Which traces get a vector in the log from now on: all, a sample of them, or those that have a label. Vectors that are there stay.';

create or replace view flywheel.embedders as
select
  e.name,
  e.provider,
  e.dimensions,
  e.model,
  e.is_half as half,
  e.state,
  e.max_chars,
  (select count(*) from flywheel._embedding_jobs as j where j.embedder_id = e.embedder_id and j.state = 'pending') as pending,
  (select count(*) from flywheel._embedding_jobs as j where j.embedder_id = e.embedder_id and j.state = 'dead') as dead,
  s.paused_until,
  s.last_error,
  e.created_at,
  e.activated_at
from flywheel._embedders as e
left join flywheel._embedder_states as s on s.embedder_id = e.embedder_id;

comment on view flywheel.embedders is 'What turns texts into vectors, and which is in use.';
comment on column flywheel.embedders.name is 'Name of the embedder.';
comment on column flywheel.embedders.provider is 'hash (in the database), openai (a compatible endpoint) or local (in the worker).';
comment on column flywheel.embedders.dimensions is 'Length of its vectors.';
comment on column flywheel.embedders.model is 'The model: one of flywheel.models for openai; null for hash.';
comment on column flywheel.embedders.half is 'Whether its vectors are stored in half precision.';
comment on column flywheel.embedders.state is 'active; building: its index is being filled and then takes over; ready: not in use.';
comment on column flywheel.embedders.max_chars is 'Of a longer text the beginning and the end are embedded.';
comment on column flywheel.embedders.pending is 'Texts that wait for a worker.';
comment on column flywheel.embedders.dead is 'Texts that were given up: see flywheel.retry_embeddings().';
comment on column flywheel.embedders.paused_until is 'After a failure, no text is claimed before.';
comment on column flywheel.embedders.last_error is 'Its latest failure, until it succeeds.';
comment on column flywheel.embedders.created_at is 'When it was created.';
comment on column flywheel.embedders.activated_at is 'When it became the active one.';
