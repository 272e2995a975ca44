-- Where vectors are. Each store of an embedder is one table, partitioned by segment:
--
--   _vectors_<embedder>_<store>      open segment: written to, no HNSW, searched exactly
--                                    other segments: an HNSW index each, built in one go
--
-- A query searches every part. Who writes never pays for HNSW: inserting
-- into it takes 1.3 ms a vector (measured), building it in bulk a seventh of that.
--
-- Vectors have length 1, so the inner product is the cosine, and costs less.

create or replace function flywheel._vector_schema()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select quote_ident(n.nspname)
  from pg_extension as e
  join pg_namespace as n on n.oid = e.extnamespace
  where e.extname = 'vector';
$$;

comment on function flywheel._vector_schema() is 'The schema pgvector is in, quoted.';

create or replace function flywheel._store_table(embedder_id integer, store text)
returns text
language sql
immutable
parallel safe
begin atomic
  select format('flywheel._vectors_%s_%s', embedder_id, store);
end;

comment on function flywheel._store_table(integer, text) is 'Name of the table with an embedder''s vectors of a store.';

-- A merged part is not searched yet, but it will be: what is removed must go from it too.
create or replace function flywheel._tables_of_store(embedder_id integer, store text)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._store_table(embedder_id, store)
  union all
  select flywheel._part_table(s)
  from flywheel._vector_segments as s
  where s.embedder_id = _tables_of_store.embedder_id and s.store = _tables_of_store.store and s.state = 'merged';
$$;

comment on function flywheel._tables_of_store(integer, text) is
  'The tables with an embedder''s vectors of a store: the one that is searched, and a part that will take its place in it.';

create or replace function flywheel._vector_type(embedder flywheel._embedders)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    '%s.%s(%s)', flywheel._vector_schema(), case when embedder.is_half then 'halfvec' else 'vector' end, embedder.dimensions
  );
$$;

comment on function flywheel._vector_type(flywheel._embedders) is 'The type of an embedder''s stored vectors.';

create or replace function flywheel._find_embedder(name text)
returns flywheel._embedders
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_embedder flywheel._embedders;
begin
  select e.* into v_embedder from flywheel._embedders as e where e.name = _find_embedder.name;
  if v_embedder.embedder_id is null then
    raise exception 'there is no embedder %', coalesce(quote_ident(name), 'null')
      using errcode = 'LF008',
        hint = 'There are: ' || (select string_agg(quote_ident(e.name), ', ' order by e.name) from flywheel._embedders as e) || '.';
  end if;
  return v_embedder;
end
$$;

comment on function flywheel._find_embedder(text) is 'An embedder by its name; LF008 if there is none.';

-- While one builds beside the active one, both are kept up to date; and of hash, always the stores that
-- answer when a network does not.
create or replace function flywheel._embedders_of(store text)
returns setof flywheel._embedders
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select e.*
  from flywheel._embedders as e
  where case store
    when 'log' then e.state in ('active', 'building')
    else e.state in ('active', 'building') or e.provider = 'hash'
  end
  order by e.embedder_id;
$$;

comment on function flywheel._embedders_of(text) is 'The embedders whose vectors of this store are kept up to date.';

-- Not while it is merged and waits to take the place of others, nor when others have taken its own.
create or replace function flywheel._is_searched(segment flywheel._vector_segments)
returns boolean
language sql
immutable
parallel safe
begin atomic
  select segment.state in ('open', 'closed', 'indexed');
end;

comment on function flywheel._is_searched(flywheel._vector_segments) is 'Whether a search looks into this part.';

create or replace function flywheel._part_table(segment flywheel._vector_segments)
returns text
language sql
immutable
parallel safe
begin atomic
  select format('flywheel._vectors_%s_%s_p%s', segment.embedder_id, segment.store, segment.part);
end;

comment on function flywheel._part_table(flywheel._vector_segments) is 'Name of the partition of a range of segments.';

-- A table of its own, attached afterwards: CREATE TABLE ... PARTITION OF would keep readers out.
create or replace function flywheel._make_part(embedder_id integer, store text, first_segment integer, last_segment integer, state text)
returns flywheel._vector_segments
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_parent constant text := flywheel._store_table(embedder_id, store);
  v_segment flywheel._vector_segments;
  v_column record;
begin
  insert into flywheel._vector_segments (embedder_id, store, first_segment, last_segment, state)
  values (embedder_id, store, first_segment, last_segment, state)
  returning * into v_segment;
  execute format('create table %s (like %s including defaults including indexes including storage)', flywheel._part_table(v_segment), v_parent);
  execute format('comment on table %s is %L', flywheel._part_table(v_segment), 'A part of the vectors of a store.');
  for v_column in
    select a.attname, col_description(a.attrelid, a.attnum) as comment
    from pg_attribute as a
    where a.attrelid = v_parent::regclass and a.attnum > 0 and not a.attisdropped
  loop
    execute format('comment on column %s.%I is %L', flywheel._part_table(v_segment), v_column.attname, v_column.comment);
  end loop;
  return v_segment;
end
$$;

comment on function flywheel._make_part(integer, text, integer, integer, text) is
  'Makes the table of a range of segments, not attached yet.';

create or replace function flywheel._attach_part(segment flywheel._vector_segments)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  execute format(
    'alter table %s attach partition %s for values from (%s) to (%s)',
    flywheel._store_table(segment.embedder_id, segment.store), flywheel._part_table(segment),
    segment.first_segment, segment.last_segment + 1
  );
end
$$;

comment on function flywheel._attach_part(flywheel._vector_segments) is
  'Makes the table of a range of segments a part of its store. No reader or writer waits.';

create or replace function flywheel._open_segment(embedder_id integer, store text)
returns integer
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select s.first_segment
  from flywheel._vector_segments as s
  where s.embedder_id = _open_segment.embedder_id and s.store = _open_segment.store and s.state = 'open';
$$;

comment on function flywheel._open_segment(integer, text) is 'The segment that new vectors of a store go to.';

create or replace function flywheel._create_store(embedder flywheel._embedders, store text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_table constant text := flywheel._store_table(embedder.embedder_id, store);
begin
  if to_regclass(v_table) is null then
    execute format(
      $table$
      create table %1$s (
        segment integer not null,
        item_id uuid not null,
        revision integer not null,
        scope text,
        at timestamptz not null,
        embedding %2$s not null
      ) partition by range (segment);
      create index on %1$s (item_id);
      create index on %1$s (scope, at);
      create index on %1$s (at);
      alter table %1$s alter column embedding set storage plain;
      comment on table %1$s is 'Vectors of one store of one embedder, in segments.';
      comment on column %1$s.segment is 'The segment: the open one when it was written.';
      comment on column %1$s.item_id is 'The trace, example or reference.';
      comment on column %1$s.revision is 'The revision of the trace it was made from.';
      comment on column %1$s.scope is 'What searches are narrowed to: a pipeline, or a validator.';
      comment on column %1$s.at is 'When the trace was received or the label made.';
      comment on column %1$s.embedding is 'The vector, of length 1.'
      $table$,
      v_table, flywheel._vector_type(embedder)
    );
    perform flywheel._attach_part(flywheel._make_part(embedder.embedder_id, store, 1, 1, 'open'));
  end if;
  perform flywheel._compile_store(embedder, store);
end
$$;

comment on function flywheel._create_store(flywheel._embedders, text) is
  'Makes the table of a store of an embedder, empty, and the functions that search it.';

create or replace function flywheel._drop_store(embedder_id integer, store text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_part flywheel._vector_segments;
begin
  -- Those that were replaced, or were merged and wait, are no parts of it.
  for v_part in
    select s.* from flywheel._vector_segments as s
    where s.embedder_id = _drop_store.embedder_id and s.store = _drop_store.store and s.state in ('merged', 'replaced')
  loop
    execute format('drop table %s', flywheel._part_table(v_part));
  end loop;
  execute format('drop table if exists %s', flywheel._store_table(embedder_id, store));
  execute format('drop function if exists flywheel._nearest_%s_%s', embedder_id, store);
  execute format('drop function if exists flywheel._recent_%s_%s', embedder_id, store);
  execute format('drop function if exists flywheel._vectors_of_%s_%s', embedder_id, store);
  delete from flywheel._vector_segments as s
  where s.embedder_id = _drop_store.embedder_id and s.store = _drop_store.store;
  delete from flywheel._index_measurements as m
  where m.embedder_id = _drop_store.embedder_id and m.store = _drop_store.store;
end
$$;

comment on function flywheel._drop_store(integer, text) is 'Removes a store of an embedder with all its vectors.';

-- Vectors of a length that is not 1, or of another number of dimensions, are refused by the type or mended.
create or replace function flywheel._add_vectors(
  embedder flywheel._embedders, store text, item_ids uuid[], revisions integer[], scopes text[], ats timestamptz[],
  embeddings flywheel._vector[]
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_count bigint;
begin
  execute format(
    $insert$
    insert into %1$s (segment, item_id, revision, scope, at, embedding)
    select $1, k.item_id, k.revision, k.scope, k.at, %2$s.l2_normalize(k.embedding::%2$s.vector)::%3$s
    from rows from (unnest($2), unnest($3), unnest($4), unnest($5), unnest($6)) as k (item_id, revision, scope, at, embedding)
    where k.embedding is not null$insert$,
    flywheel._store_table(embedder.embedder_id, store), flywheel._vector_schema(), flywheel._vector_type(embedder)
  )
  using flywheel._open_segment(embedder.embedder_id, store), item_ids, revisions, scopes, ats, embeddings;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function flywheel._add_vectors(flywheel._embedders, text, uuid[], integer[], text[], timestamptz[], flywheel._vector[]) is
  'Writes vectors into the open segment of a store, where they are found at once.';

-- In place: the parts and their indexes stay.
create or replace function flywheel._empty_logs()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_table text;
begin
  for v_table in
    select t from flywheel._embedders_of('log') as e, flywheel._tables_of_store(e.embedder_id, 'log') as t
  loop
    execute format('truncate %s', v_table);
  end loop;
  update flywheel._vector_segments as s set rows = 0 where s.store = 'log';
  delete from flywheel._stale_vectors as s where s.store = 'log';
  delete from flywheel._embedding_jobs as j where j.store = 'log';
end
$$;

comment on function flywheel._empty_logs() is 'Removes the vectors of all traces.';
