-- The embedder that is always there. Its stores are made with it, and their functions written again by
-- each release, like those of all others.
insert into flywheel._embedders (name, provider, dimensions, state, activated_at)
select 'hash', 'hash', 384, 'active', flywheel.now()
where not exists (select from flywheel._embedders as e where e.provider = 'hash');

do $$
begin
  perform flywheel._create_store(e, s.store)
  from flywheel._embedders as e,
    unnest(array['log', 'examples']) as s (store)
  where e.embedder_id in (select o.embedder_id from flywheel._embedders_of(s.store) as o);
end
$$;
