-- Arithmetic on vectors under names that need no search_path: bound to pgvector's, wherever it is.

create or replace function flywheel._inner_product(a flywheel._vector, b flywheel._vector)
returns double precision
language sql
immutable
parallel safe
begin atomic
  select -(a::vector <#> b::vector);
end;

comment on function flywheel._inner_product(flywheel._vector, flywheel._vector) is
  'Inner product: the cosine of two vectors of length 1.';

create or replace function flywheel._dimensions_of(a flywheel._vector)
returns integer
language sql
immutable
parallel safe
begin atomic
  select vector_dims(a::vector);
end;

comment on function flywheel._dimensions_of(flywheel._vector) is 'Number of dimensions.';

create or replace function flywheel._normalized(a flywheel._vector)
returns flywheel._vector
language sql
immutable
parallel safe
begin atomic
  select l2_normalize(a::vector)::flywheel._vector;
end;

comment on function flywheel._normalized(flywheel._vector) is 'The vector of length 1 in the same direction.';

create or replace function flywheel._centroid(vectors flywheel._vector[])
returns flywheel._vector
language sql
immutable
parallel safe
begin atomic
  select l2_normalize(avg(v.embedding::vector))::flywheel._vector
  from unnest(vectors) as v (embedding);
end;

comment on function flywheel._centroid(flywheel._vector[]) is 'The direction in which vectors of length 1 point on the whole.';
