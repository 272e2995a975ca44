-- The embedder that is always there. Its stores are made with it, and their functions written again by
-- each release, like those of all others.
-- Half precision halves what has to stay in memory, and changes no neighbour that matters.
insert into flywheel._embedders (name, provider, dimensions, is_half, state, activated_at)
select 'hash', 'hash', 384, true, 'active', flywheel.now()
where not exists (select from flywheel._embedders as e where e.provider = 'hash');

do $$
begin
  perform flywheel._create_store(e, s.store)
  from flywheel._embedders as e,
    unnest(array['log', 'examples', 'corrections']) as s (store)
  where e.embedder_id in (select o.embedder_id from flywheel._embedders_of(s.store) as o);
end
$$;
