-- From one embedder to another: use_embedder() begins it, embed_texts() ends it.
--
-- Readers look up which embedder is active and then search its stores. What has just been retired is
-- therefore kept for a while, and removed by index_vectors() when nobody can still be on its way there.

create or replace function flywheel._cut_over()
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_new flywheel._embedders;
  v_old flywheel._embedders;
begin
  -- New traces always wait for a moment, and texts that were given up for ever: neither is waited for.
  select e.* into v_new
  from flywheel._embedders as e
  where e.state = 'building' and e.backfilled_to is null
    and not exists (
      select
      from flywheel._embedding_jobs as j
      where j.embedder_id = e.embedder_id and j.state = 'pending'
        and (j.priority > 0 or j.store <> 'log' or j.run_at < flywheel.now() - interval '1 minute')
    );
  if not found or flywheel._enqueue_missing_examples(v_new) then
    return false;
  end if;
  select e.* into strict v_old from flywheel._embedders as e where e.state = 'active';
  perform flywheel._retire_embedder(v_old);
  update flywheel._embedders as e
  set state = 'active', activated_at = flywheel.now(), retired_at = null
  where e.embedder_id = v_new.embedder_id;
  return true;
end
$$;

comment on function flywheel._cut_over() is 'Makes the embedder that has been building the active one, if it has all vectors.';

-- A label whose transaction did not see yet that another embedder is building tells only the old one.
create or replace function flywheel._enqueue_missing_examples(embedder flywheel._embedders)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_store text;
  v_missing uuid[];
  v_found boolean := false;
begin
  if embedder.provider = 'hash' then  -- its examples are always there
    return false;
  end if;
  foreach v_store in array array['examples', 'corrections'] loop
    execute format(
      $query$
      select array_agg(x.example_id)
      from flywheel._examples as x
      where flywheel._example_store(x.kind) = $2
        and flywheel._text_to_embed(x.input, x.output) is not null
        and not exists (select from %s as v where v.item_id = x.example_id)
        and not exists (
          select from flywheel._embedding_jobs as j
          where j.embedder_id = $1 and j.store = $2 and j.item_id = x.example_id
        )$query$,
      flywheel._store_table(embedder.embedder_id, v_store)
    ) into v_missing using embedder.embedder_id, v_store;
    if v_missing is not null then
      perform flywheel._enqueue_embeddings(embedder.embedder_id, v_store, v_missing, 1);
      v_found := true;
    end if;
  end loop;
  return v_found;
end
$$;

comment on function flywheel._enqueue_missing_examples(flywheel._embedders) is
  'Enqueues the examples an embedder knows nothing of; whether there were any.';

create or replace function flywheel._retire_embedder(embedder flywheel._embedders)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  update flywheel._embedders as e
  set state = 'ready', backfilled_to = null, retired_at = flywheel.now()
  where e.embedder_id = embedder.embedder_id;
  delete from flywheel._embedding_jobs as j where j.embedder_id = embedder.embedder_id;
end
$$;

comment on function flywheel._retire_embedder(flywheel._embedders) is 'Stops using an embedder; its vectors stay for a while.';

-- The jobs first: a worker that is storing vectors holds them, and is waited for.
create or replace function flywheel._drop_stores(embedder flywheel._embedders)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set client_min_messages = warning
as $$
begin
  delete from flywheel._embedding_jobs as j where j.embedder_id = embedder.embedder_id;
  perform flywheel._drop_store(embedder.embedder_id, 'log');
  if embedder.provider <> 'hash' then
    perform flywheel._drop_store(embedder.embedder_id, 'examples');
    perform flywheel._drop_store(embedder.embedder_id, 'corrections');
  end if;
end
$$;

comment on function flywheel._drop_stores(flywheel._embedders) is
  'Removes the vectors of an embedder that is not used any more; those of hash that answer when a network does not stay.';

create or replace function flywheel._drop_retired_stores()
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set lock_timeout = '200ms'
as $$
declare
  v_retired flywheel._embedders;
begin
  select e.* into v_retired
  from flywheel._embedders as e
  where e.state = 'ready' and e.retired_at < flywheel.now() - interval '1 minute'
  order by e.retired_at
  limit 1
  for update skip locked;
  if not found then
    return false;
  end if;
  perform flywheel._drop_stores(v_retired);
  update flywheel._embedders as e set retired_at = null where e.embedder_id = v_retired.embedder_id;
  return true;
exception when lock_not_available then  -- somebody still reads: another time
  return false;
end
$$;

comment on function flywheel._drop_retired_stores() is
  'Removes the vectors of an embedder that was retired a while ago; whether there was one.';
