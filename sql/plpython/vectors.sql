-- The vectors of the embedder hash where there is Python: flywheel_pl.embeddings.hashing. Applied
-- like runtime.sql.

create or replace function flywheel._hash_weights_in_python(texts text[])
returns vector[]
language plpython3u
immutable
as $flywheel$
found = GD.get("flywheel_pl")
if found is None or found[0] != {{release}}:
    plpy.execute("select flywheel._boot_python()")
from flywheel_pl.embeddings.hashing import hash_texts
return hash_texts(texts)
$flywheel$;

comment on function flywheel._hash_weights_in_python(text[]) is
  'The weights of the hashed grams of each text, not of length 1 yet; null for a text without a word.';
