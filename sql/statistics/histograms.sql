-- Histograms that can be added up, and quantiles from them: DDSketch (Masson, Rim and Lee 2019, "DDSketch:
-- a fast and fully-mergeable quantile sketch with relative-error guarantees", section 2). Bucket i holds
-- what is above g^(i-1) and at most g^i, and stands for a value within (g - 1) / (g + 1) of all of it.
-- Here g is 10^(1/120), so that is 0.96 %, whatever the scale. Counts per bucket are all that is kept, so
-- they can be maintained by adding and subtracting.

create or replace function flywheel._bucket(value double precision)
returns integer
language sql
immutable
parallel safe
begin atomic
  select case
    -- Further from zero, values keep their order: 100000 is more than any exponent.
    when value >= 1e-300 and value < 'Infinity' then 100000 + ceil(120 * log(value))::integer
    when value <= -1e-300 and value > '-Infinity' then -100000 - ceil(120 * log(-value))::integer
    when value > -1e-300 and value < 1e-300 then 0
  end;
end;

comment on function flywheel._bucket(double precision) is
  'The bucket of a value in the histograms of metrics: 120 to a power of ten, one for zero; null for null, infinity and NaN.';

create or replace function flywheel._bucket_value(bucket integer)
returns double precision
language sql
immutable
parallel safe
begin atomic
  select case
    when bucket = 0 then 0
    -- Between the two ends, as far from one as from the other in per cent: 2 g / (g + 1) times the lower.
    else sign(bucket) * power(10::double precision, (abs(bucket) - 100001) / 120::double precision) * 1.0095938101959703
  end;
end;

comment on function flywheel._bucket_value(integer) is 'The value a bucket stands for: within 1 % of whatever is in it.';
