-- Quantiles and distinct counts that can be added up and taken away again.
--
-- quantile: a histogram whose buckets grow by the factor 1.01/0.99, as in DDSketch (Masson, Rim, Lee:
-- VLDB 2019). The middle of a bucket is within 1 % of everything in it.
-- distinct_count: HyperLogLog (Flajolet et al. 2007; estimated as in Ertl 2017) with 4,096 registers,
-- standard error 1.6 %. Not the highest rank of each register is kept but how many rows have each rank,
-- so that a row can leave. Both say the same whether they are computed from the rows or from what was kept.

create or replace function flywheel._quantile_bucket(x double precision)
returns integer
language sql
immutable
parallel safe
begin atomic
  select case
    when x = 'NaN' then 100000
    when x = 'Infinity' then 90000
    when x = '-Infinity' then -90000
    when x > 0 then 40000 + ceil(ln(x) / 0.020000666706669435)::integer
    when x < 0 then -40000 - ceil(ln(-x) / 0.020000666706669435)::integer
    when x = 0 then 0
  end;
end;

comment on function flywheel._quantile_bucket(double precision) is 'The bucket of a number: higher numbers have higher ones.';

create or replace function flywheel._quantile_value(bucket integer)
returns double precision
language sql
immutable
parallel safe
begin atomic
  select case
    when bucket = 100000 then 'NaN'
    when abs(bucket) = 90000 then sign(bucket) * double precision 'Infinity'
    when bucket = 0 then 0
    -- 2 / (gamma + 1), gamma = 1.01 / 0.99
    else sign(bucket) * 0.99 * exp(greatest(least((abs(bucket) - 40000) * 0.020000666706669435::double precision, 709.78), -744))
  end;
end;

comment on function flywheel._quantile_value(integer) is 'The middle of a bucket: within 1 % of all its numbers.';

create or replace function flywheel._quantile_of_buckets(buckets integer[], counts bigint[], p double precision)
returns double precision
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._quantile_value(b.bucket)
  from (
    select b.bucket, b.n, sum(b.n) over (order by b.bucket) as so_far, sum(b.n) over () as total
    from (
      select b.bucket, sum(b.n) as n
      from rows from (unnest(buckets), unnest(counts)) as b (bucket, n)
      where b.n is not null
      group by b.bucket
    ) as b
  ) as b
  where p between 0 and 1 and b.n > 0 and b.so_far >= p * b.total
  order by b.bucket
  limit 1;
$$;

comment on function flywheel._quantile_of_buckets(integer[], bigint[], double precision) is 'A quantile from the counts of buckets, which may be given in parts.';

create or replace function flywheel._quantile_final(state double precision[], p double precision)
returns double precision
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._quantile_of_buckets(array_agg(b.bucket), array_agg(b.n), p)
  from (
    select flywheel._quantile_bucket(s.x) as bucket, count(*) as n
    from unnest(state) as s (x)
    where s.x is not null
    group by flywheel._quantile_bucket(s.x)
  ) as b;
$$;

comment on function flywheel._quantile_final(double precision[], double precision) is 'A quantile of numbers, by their buckets.';

-- array_append() is the one transition that grows a state in place.
create or replace aggregate flywheel.quantile(p double precision order by x double precision) (
  sfunc = array_append,
  stype = double precision[],
  finalfunc = flywheel._quantile_final,
  finalfunc_modify = read_only
);

comment on aggregate flywheel.quantile(double precision order by double precision) is
  'Like percentile_disc(p) within group (order by x), within 1 % of it, without sorting; can be kept current in an incremental metric. Null without rows. Example: flywheel.quantile(0.95) within group (order by score).';

-- No SET clause: it runs for every row. So every name and operator in it is qualified.
create or replace function flywheel._distinct_bucket(x anyelement)
returns integer
language sql
immutable
parallel safe
as $$
  select pg_catalog.int4(h.hash operator(pg_catalog.&) 4095) operator(pg_catalog.*) 64 operator(pg_catalog.+)
    -- The place of the lowest bit that is set among the other 52.
    case when r.rest operator(pg_catalog.=) 0 then 53 else
      pg_catalog.int4(pg_catalog.round(
        pg_catalog.ln(pg_catalog.float8(r.rest operator(pg_catalog.&) (operator(pg_catalog.-) r.rest))) operator(pg_catalog./) 0.6931471805599453::pg_catalog.float8
      )) operator(pg_catalog.+) 1
    end
  from (select pg_catalog.hash_record_extended(row (x), 0) as hash) as h,
    lateral (select h.hash operator(pg_catalog.>>) 12 operator(pg_catalog.&) 4503599627370495 as rest) as r
$$;

comment on function flywheel._distinct_bucket(anyelement) is 'Register and rank of a value: 64 * register + rank.';

-- Null of what has no end, which PostgreSQL does not subtract before version 17.
create or replace function flywheel._milliseconds(started_at timestamptz, ended_at timestamptz)
returns double precision
language sql
immutable
parallel safe
begin atomic
  select case when isfinite(started_at) and isfinite(ended_at) then extract(epoch from ended_at - started_at)::double precision * 1000 end;
end;

comment on function flywheel._milliseconds(timestamptz, timestamptz) is 'Milliseconds from one time to another; null if one of them is null or infinite.';

-- Ertl 2017, "New cardinality estimation algorithms for HyperLogLog sketches", eq. 19 (the improved raw
-- estimator) for ranks that never run out: unlike the estimator of Flajolet et al. 2007 it has no bias
-- between 2.5 and 5 values a register.
create or replace function flywheel._distinct_estimate(inverse_sum double precision, empty_registers bigint)
returns bigint
language sql
immutable
parallel safe
begin atomic
  select case
    when empty_registers = 4096 then 0
    else round(
      4096::double precision * 4096 / (2 * ln(2::double precision)) / (
        inverse_sum - empty_registers + case
          when empty_registers = 0 then 0
          -- x + sum(x ^ (2 ^ k) * 2 ^ (k - 1)), x being the share of the empty ones; after k = 20 nothing is left of it.
          else empty_registers + 4096 * (
            select sum(exp(greatest(2::double precision ^ k * ln(greatest(empty_registers, 1) / 4096::double precision), -700)) * 2::double precision ^ (k - 1))
            from generate_series(1, 20) as k
          )
        end
      )
    )::bigint
  end;
end;

comment on function flywheel._distinct_estimate(double precision, bigint) is 'How many distinct values 4,096 registers stand for.';

create or replace function flywheel._distinct_count_of_buckets(buckets integer[], counts bigint[])
returns bigint
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._distinct_estimate(coalesce(sum(2::double precision ^ -r.rank), 0) + 4096 - count(*), 4096 - count(*))
  from (
    select b.bucket / 64 as register, max(b.bucket % 64) as rank
    from (
      select b.bucket
      from rows from (unnest(buckets), unnest(counts)) as b (bucket, n)
      group by b.bucket
      having sum(b.n) > 0
    ) as b
    group by b.bucket / 64
  ) as r;
$$;

comment on function flywheel._distinct_count_of_buckets(integer[], bigint[]) is 'How many distinct values the counts of (register, rank) stand for.';

-- A byte a register.
create or replace function flywheel._distinct_add(state bytea, x anyelement)
returns bytea
language plpgsql
immutable
parallel safe
as $$
declare
  v_bucket pg_catalog.int4;
begin
  if x is null then
    return state;
  end if;
  v_bucket := flywheel._distinct_bucket(x);
  if state is null then
    state := pg_catalog.decode(pg_catalog.repeat('00', 4096), 'hex');
  end if;
  if pg_catalog.get_byte(state, v_bucket operator(pg_catalog./) 64) operator(pg_catalog.<) (v_bucket operator(pg_catalog.%) 64) then
    return pg_catalog.set_byte(state, v_bucket operator(pg_catalog./) 64, v_bucket operator(pg_catalog.%) 64);
  end if;
  return state;
end
$$;

comment on function flywheel._distinct_add(bytea, anyelement) is 'Raises the register of a value to its rank.';

create or replace function flywheel._distinct_final(state bytea)
returns bigint
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case
    when state is null then 0
    else (
      select flywheel._distinct_estimate(sum(2::double precision ^ -get_byte(state, r.register)), count(*) filter (where get_byte(state, r.register) = 0))
      from generate_series(0, 4095) as r (register)
    )
  end;
$$;

comment on function flywheel._distinct_final(bytea) is 'How many distinct values the registers stand for.';

create or replace aggregate flywheel.distinct_count(x anyelement) (
  sfunc = flywheel._distinct_add,
  stype = bytea,
  finalfunc = flywheel._distinct_final,
  finalfunc_modify = read_only
);

comment on aggregate flywheel.distinct_count(anyelement) is
  'Like count(distinct x), with a standard error of 1.6 %, in constant memory; can be kept current in an incremental metric.';
