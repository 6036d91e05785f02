"""The statements of `object_pages`, each whole; which index each walks stands above it.

All end alike. `walked` is one past a page of the versions that the filter selects; the outer query numbers them and adds up
their octets: what fits is served, and one row that doesn't is left in to say that there is more (row 2 is looked at in any
case, since row 1 always fits). Casts give parameters their types where nothing else does.

A page comes in a few rows, each of what begins within 128 KiB of bodies. Neither Postgres nor the driver then needs it in
one piece, for which both would hold on to a buffer. Rows come in any order, what is in them in the order of addition.

| column | |
| --- | --- |
| `known` | `OF_OBJECTS` alone: whether the caller sees any version of these objects; with nothing to serve, the rest is null |
| `bodies` | the posted texts as octets, with commas between them; null without `:bodies` |
| `dates` | of each version its `date_added`, eight octets: microseconds since 2000, big-endian; null if nothing in the row fits |
| `ids`, `forms`, `versions` | of each version, without `:bodies` |
| `more` | whether a version matched that no longer fits |

Late arrivals of `lateness` n came at most 16^n seconds late: those that are news to who asks from `:added_after` on were added
within as much of it. Their NOT EXISTS ends in OFFSET 0, which keeps Postgres from reading all versions there are to join them.
`:position` is where the walk begins. What a version is compared with was added after `:added_after` or `:since`, which is
-infinity where the request named no such instant. `:forms` are the forms in question, all of them unless `:named`.
"""

from __future__ import annotations

from functools import partial

from taxii_server.storage.hot import Statement

_page = partial(Statement, columns="bodies dates ids forms versions more")
_known = partial(Statement, columns="known bodies dates ids forms versions more")

# The default view. Merges walks of ix_object_versions_latest, one a level, and of ix_object_versions_lateness. Each level
# is walked through what nobody supersedes (5), and through what is superseded only above the clearance, which is little. The
# index's condition is repeated to the letter, so that Postgres may use it; its order goes on with the form, which changes
# nothing, and leaves Postgres no other index to walk.
LATEST = _page("""
    WITH walked AS (
        SELECT * FROM (
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 0 AND 0 <= :clearance AND date_added > :position
             AND least(superseded_level, newer_form_level) = 5 AND least(superseded_level, newer_form_level) > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 1 AND 1 <= :clearance AND date_added > :position
             AND least(superseded_level, newer_form_level) = 5 AND least(superseded_level, newer_form_level) > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 2 AND 2 <= :clearance AND date_added > :position
             AND least(superseded_level, newer_form_level) = 5 AND least(superseded_level, newer_form_level) > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 3 AND 3 <= :clearance AND date_added > :position
             AND least(superseded_level, newer_form_level) = 5 AND least(superseded_level, newer_form_level) > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 4 AND 4 <= :clearance AND date_added > :position
             AND least(superseded_level, newer_form_level) = 5 AND least(superseded_level, newer_form_level) > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT walk.*
            FROM generate_series(0, CAST(:clearance AS integer)) AS levels(own)
           CROSS JOIN generate_series(CAST(:clearance AS integer) + 1, 4) AS above(top)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions
                  WHERE collection_id = :collection AND level = own AND date_added > :position
                    AND least(superseded_level, newer_form_level) = top AND least(superseded_level, newer_form_level) > level
                    AND form = ANY(:forms)
                  ORDER BY date_added, form LIMIT :rows) AS walk
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT walk.*
            FROM generate_series(0, 8) AS spans(n)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions AS late
                  WHERE collection_id = :collection AND lateness = n AND date_added > :position AND late_after <= :added_after
                    AND date_added <= :added_after + 16 ^ n * interval '1s' AND level <= :clearance AND form = ANY(:forms)
                    AND (superseded_level <= :clearance OR newer_form_level <= :clearance)
                    AND NOT EXISTS (SELECT FROM object_versions AS later
                                     WHERE later.collection_id = late.collection_id AND later.stix_id = late.stix_id
                                       AND (later.form, later.version_at) > (late.form, late.version_at)
                                       AND later.level <= :clearance AND later.date_added > :added_after OFFSET 0)
                  ORDER BY date_added, late_after LIMIT :rows) AS walk
           WHERE :added_after + 16 ^ n * interval '1s' > :position
           ORDER BY date_added, form LIMIT :rows)
        ) AS walks
         ORDER BY date_added, form LIMIT :rows
    )
    SELECT string_agg(textsend(body), ',') FILTER (WHERE fits AND :bodies) AS bodies,
           string_agg(timestamptz_send(date_added), '') FILTER (WHERE fits) AS dates,
           array_agg(stix_id) FILTER (WHERE fits AND NOT :bodies) AS ids,
           array_agg(form) FILTER (WHERE fits AND NOT :bodies) AS forms,
           array_agg(version) FILTER (WHERE fits AND NOT :bodies) AS versions,
           bool_or(NOT fits) AS more
      FROM (SELECT *, nth = 1 OR (nth <= :limit AND octets <= :page_bytes) AS fits
              FROM (SELECT *, row_number() OVER additions AS nth, sum(body_bytes) OVER additions AS octets
                      FROM walked WINDOW additions AS (ORDER BY date_added ROWS UNBOUNDED PRECEDING)) AS counted
           ) AS sized
     WHERE nth <= 2 OR octets - body_bytes <= :page_bytes
     GROUP BY (octets - body_bytes) / 131072
""")

# The default view of some types. Walks ix_object_versions_latest_of_type once a type, level and level that supersedes, each
# to the page's end at most. Here the order goes on with what the other indexes lack.
LATEST_OF_TYPES = _page("""
    WITH walked AS (
        SELECT * FROM (
          SELECT walk.*
            FROM unnest(CAST(:types AS text[])) AS kinds(kind)
           CROSS JOIN generate_series(0, CAST(:clearance AS integer)) AS levels(own)
           CROSS JOIN generate_series(CAST(:clearance AS integer) + 1, 5) AS above(top)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions
                  WHERE collection_id = :collection AND stix_type = kind AND level = own AND date_added > :position
                    AND least(superseded_level, newer_form_level) = top AND least(superseded_level, newer_form_level) > level
                    AND form = ANY(:forms)
                  ORDER BY date_added, superseded_level LIMIT :rows) AS walk
       UNION ALL
         (SELECT walk.*
            FROM generate_series(0, 8) AS spans(n)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions AS late
                  WHERE collection_id = :collection AND lateness = n AND date_added > :position AND late_after <= :added_after
                    AND date_added <= :added_after + 16 ^ n * interval '1s' AND level <= :clearance AND form = ANY(:forms)
                    AND (superseded_level <= :clearance OR newer_form_level <= :clearance) AND stix_type = ANY(CAST(:types AS text[]))
                    AND NOT EXISTS (SELECT FROM object_versions AS later
                                     WHERE later.collection_id = late.collection_id AND later.stix_id = late.stix_id
                                       AND (later.form, later.version_at) > (late.form, late.version_at)
                                       AND later.level <= :clearance AND later.date_added > :added_after OFFSET 0)
                  ORDER BY date_added, late_after LIMIT :rows) AS walk
           WHERE :added_after + 16 ^ n * interval '1s' > :position
           ORDER BY date_added, form LIMIT :rows)
        ) AS walks
         ORDER BY date_added LIMIT :rows
    )
    SELECT string_agg(textsend(body), ',') FILTER (WHERE fits AND :bodies) AS bodies,
           string_agg(timestamptz_send(date_added), '') FILTER (WHERE fits) AS dates,
           array_agg(stix_id) FILTER (WHERE fits AND NOT :bodies) AS ids,
           array_agg(form) FILTER (WHERE fits AND NOT :bodies) AS forms,
           array_agg(version) FILTER (WHERE fits AND NOT :bodies) AS versions,
           bool_or(NOT fits) AS more
      FROM (SELECT *, nth = 1 OR (nth <= :limit AND octets <= :page_bytes) AS fits
              FROM (SELECT *, row_number() OVER additions AS nth, sum(body_bytes) OVER additions AS octets
                      FROM walked WINDOW additions AS (ORDER BY date_added ROWS UNBOUNDED PRECEDING)) AS counted
           ) AS sized
     WHERE nth <= 2 OR octets - body_bytes <= :page_bytes
     GROUP BY (octets - body_bytes) / 131072
""")

# Every version of each object's newest form. Merges walks of ix_object_versions_newest_form, as the default view does.
NEWEST_FORM = _page("""
    WITH walked AS (
        SELECT * FROM (
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 0 AND 0 <= :clearance AND date_added > :position
             AND newer_form_level = 5 AND newer_form_level > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 1 AND 1 <= :clearance AND date_added > :position
             AND newer_form_level = 5 AND newer_form_level > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 2 AND 2 <= :clearance AND date_added > :position
             AND newer_form_level = 5 AND newer_form_level > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 3 AND 3 <= :clearance AND date_added > :position
             AND newer_form_level = 5 AND newer_form_level > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT date_added, stix_id, form, version, body_bytes, body
            FROM object_versions
           WHERE collection_id = :collection AND level = 4 AND 4 <= :clearance AND date_added > :position
             AND newer_form_level = 5 AND newer_form_level > level
             AND form = ANY(:forms)
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT walk.*
            FROM generate_series(0, CAST(:clearance AS integer)) AS levels(own)
           CROSS JOIN generate_series(CAST(:clearance AS integer) + 1, 4) AS above(top)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions
                  WHERE collection_id = :collection AND level = own AND date_added > :position
                    AND newer_form_level = top AND newer_form_level > level
                    AND form = ANY(:forms)
                  ORDER BY date_added, form LIMIT :rows) AS walk
           ORDER BY date_added, form LIMIT :rows)
       UNION ALL
         (SELECT walk.*
            FROM generate_series(0, 8) AS spans(n)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions AS late
                  WHERE collection_id = :collection AND lateness = n AND date_added > :position AND late_after <= :added_after
                    AND date_added <= :added_after + 16 ^ n * interval '1s' AND level <= :clearance AND form = ANY(:forms)
                    AND newer_form_level <= :clearance
                    AND NOT EXISTS (SELECT FROM object_versions AS later
                                     WHERE later.collection_id = late.collection_id AND later.stix_id = late.stix_id
                                       AND later.form > late.form
                                       AND later.level <= :clearance AND later.date_added > :added_after OFFSET 0)
                  ORDER BY date_added, late_after LIMIT :rows) AS walk
           WHERE :added_after + 16 ^ n * interval '1s' > :position
           ORDER BY date_added, form LIMIT :rows)
        ) AS walks
         ORDER BY date_added, form LIMIT :rows
    )
    SELECT string_agg(textsend(body), ',') FILTER (WHERE fits AND :bodies) AS bodies,
           string_agg(timestamptz_send(date_added), '') FILTER (WHERE fits) AS dates,
           array_agg(stix_id) FILTER (WHERE fits AND NOT :bodies) AS ids,
           array_agg(form) FILTER (WHERE fits AND NOT :bodies) AS forms,
           array_agg(version) FILTER (WHERE fits AND NOT :bodies) AS versions,
           bool_or(NOT fits) AS more
      FROM (SELECT *, nth = 1 OR (nth <= :limit AND octets <= :page_bytes) AS fits
              FROM (SELECT *, row_number() OVER additions AS nth, sum(body_bytes) OVER additions AS octets
                      FROM walked WINDOW additions AS (ORDER BY date_added ROWS UNBOUNDED PRECEDING)) AS counted
           ) AS sized
     WHERE nth <= 2 OR octets - body_bytes <= :page_bytes
     GROUP BY (octets - body_bytes) / 131072
""")

# The same of some types. Walks ix_object_versions_newest_form_of_type.
NEWEST_FORM_OF_TYPES = _page("""
    WITH walked AS (
        SELECT * FROM (
          SELECT walk.*
            FROM unnest(CAST(:types AS text[])) AS kinds(kind)
           CROSS JOIN generate_series(0, CAST(:clearance AS integer)) AS levels(own)
           CROSS JOIN generate_series(CAST(:clearance AS integer) + 1, 5) AS above(top)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions
                  WHERE collection_id = :collection AND stix_type = kind AND level = own AND date_added > :position
                    AND newer_form_level = top AND newer_form_level > level
                    AND form = ANY(:forms)
                  ORDER BY date_added, superseded_level LIMIT :rows) AS walk
       UNION ALL
         (SELECT walk.*
            FROM generate_series(0, 8) AS spans(n)
           CROSS JOIN LATERAL (
                 SELECT date_added, stix_id, form, version, body_bytes, body
                   FROM object_versions AS late
                  WHERE collection_id = :collection AND lateness = n AND date_added > :position AND late_after <= :added_after
                    AND date_added <= :added_after + 16 ^ n * interval '1s' AND level <= :clearance AND form = ANY(:forms)
                    AND newer_form_level <= :clearance AND stix_type = ANY(CAST(:types AS text[]))
                    AND NOT EXISTS (SELECT FROM object_versions AS later
                                     WHERE later.collection_id = late.collection_id AND later.stix_id = late.stix_id
                                       AND later.form > late.form
                                       AND later.level <= :clearance AND later.date_added > :added_after OFFSET 0)
                  ORDER BY date_added, late_after LIMIT :rows) AS walk
           WHERE :added_after + 16 ^ n * interval '1s' > :position
           ORDER BY date_added, form LIMIT :rows)
        ) AS walks
         ORDER BY date_added LIMIT :rows
    )
    SELECT string_agg(textsend(body), ',') FILTER (WHERE fits AND :bodies) AS bodies,
           string_agg(timestamptz_send(date_added), '') FILTER (WHERE fits) AS dates,
           array_agg(stix_id) FILTER (WHERE fits AND NOT :bodies) AS ids,
           array_agg(form) FILTER (WHERE fits AND NOT :bodies) AS forms,
           array_agg(version) FILTER (WHERE fits AND NOT :bodies) AS versions,
           bool_or(NOT fits) AS more
      FROM (SELECT *, nth = 1 OR (nth <= :limit AND octets <= :page_bytes) AS fits
              FROM (SELECT *, row_number() OVER additions AS nth, sum(body_bytes) OVER additions AS octets
                      FROM walked WINDOW additions AS (ORDER BY date_added ROWS UNBOUNDED PRECEDING)) AS counted
           ) AS sized
     WHERE nth <= 2 OR octets - body_bytes <= :page_bytes
     GROUP BY (octets - body_bytes) / 131072
""")

# Any mixture of first, last, every and exact versions, in any forms: judged along the primary key, or, of forms before the newest,
# along ix_object_versions_older, by probes of the unique key, backwards for an earlier one (IS TRUE: from there, not from the end).
PICKED = _page("""
    WITH walked AS (
        SELECT date_added, stix_id, form, version, body_bytes, body
          FROM ((SELECT * FROM object_versions WHERE form = 21 AND 21 = ANY(CAST(:forms AS smallint[])) ORDER BY date_added)
                UNION ALL (SELECT * FROM object_versions WHERE form < 21 ORDER BY date_added, form)) AS this
         WHERE collection_id = :collection AND date_added > :position AND level <= :clearance AND form = ANY(:forms)
           AND (CAST(:types AS text[]) IS NULL OR stix_type = ANY(CAST(:types AS text[])))
           AND ((:last AND NOT EXISTS (
                     SELECT FROM object_versions AS later
                      WHERE later.collection_id = this.collection_id AND later.stix_id = this.stix_id
                        AND (later.form, later.version_at) > (this.form, this.version_at)
                        AND later.level <= :clearance AND later.form = ANY(:forms)
                        AND later.date_added > :since))
             OR (:first AND (
                     SELECT form FROM object_versions AS earlier
                      WHERE earlier.collection_id = this.collection_id AND earlier.stix_id = this.stix_id
                        AND (earlier.form, earlier.version_at) < (this.form, this.version_at)
                        AND earlier.level <= :clearance AND (earlier.form = ANY(:forms)) IS TRUE AND earlier.date_added > :since
                        AND (:named OR earlier.form = this.form)
                      ORDER BY form DESC, version_at DESC LIMIT 1) IS NULL)
             OR :every OR version_at = ANY(CAST(:exact AS timestamptz[])))
           -- no form was named: of what is left, the newest form only, and each exact version for itself
           AND (:named OR NOT EXISTS (
                     SELECT FROM object_versions AS newer
                      WHERE newer.collection_id = this.collection_id AND newer.stix_id = this.stix_id
                        AND newer.form > this.form AND newer.level <= :clearance AND newer.date_added > :since)
                OR (version_at = ANY(CAST(:exact AS timestamptz[])) AND NOT EXISTS (
                     SELECT FROM object_versions AS twin
                      WHERE twin.collection_id = this.collection_id AND twin.stix_id = this.stix_id
                        AND twin.form > this.form AND twin.version_at = this.version_at
                        AND twin.level <= :clearance AND twin.date_added > :since)))
         ORDER BY date_added LIMIT :rows
    )
    SELECT string_agg(textsend(body), ',') FILTER (WHERE fits AND :bodies) AS bodies,
           string_agg(timestamptz_send(date_added), '') FILTER (WHERE fits) AS dates,
           array_agg(stix_id) FILTER (WHERE fits AND NOT :bodies) AS ids,
           array_agg(form) FILTER (WHERE fits AND NOT :bodies) AS forms,
           array_agg(version) FILTER (WHERE fits AND NOT :bodies) AS versions,
           bool_or(NOT fits) AS more
      FROM (SELECT *, nth = 1 OR (nth <= :limit AND octets <= :page_bytes) AS fits
              FROM (SELECT *, row_number() OVER additions AS nth, sum(body_bytes) OVER additions AS octets
                      FROM walked WINDOW additions AS (ORDER BY date_added ROWS UNBOUNDED PRECEDING)) AS counted
           ) AS sized
     WHERE nth <= 2 OR octets - body_bytes <= :page_bytes
     GROUP BY (octets - body_bytes) / 131072
""")

# The same for some objects, and whether the caller sees any version of any. Their versions are found by the unique key, object by
# object (OFFSET 0: not the whole key in its order), and compared side by side; bodies are fetched for those that fit.
OF_OBJECTS = _known("""
    WITH visible AS (
        SELECT date_added, stix_id, form, version_at, version, body_bytes,
               lead(form) OVER versions IS NULL AS is_last,
               row_number() OVER versions = 1 AS is_first,
               row_number() OVER versions_of_form = 1 AS is_first_of_form,
               form = max(form) OVER (PARTITION BY stix_id) AS is_newest_form,
               form = max(form) OVER (PARTITION BY stix_id, version_at) AS is_newest_twin
          FROM unnest(CAST(:ids AS text[])) AS named(id)
         CROSS JOIN LATERAL (
               SELECT date_added, stix_id, form, version_at, version, body_bytes
                 FROM object_versions
                WHERE collection_id = :collection AND stix_id = named.id
                  AND level <= :clearance AND form = ANY(:forms) AND date_added > :since
                  AND (CAST(:types AS text[]) IS NULL OR stix_type = ANY(CAST(:types AS text[])))
               OFFSET 0) AS of_object
        WINDOW versions AS (PARTITION BY stix_id ORDER BY form, version_at),
               versions_of_form AS (PARTITION BY stix_id, form ORDER BY version_at)
    ), walked AS (
        SELECT *
          FROM visible
         WHERE date_added > :position
           AND ((:last AND is_last)
             OR (:first AND CASE WHEN :named THEN is_first ELSE is_first_of_form AND is_newest_form END)
             OR (:every AND (:named OR is_newest_form))
             OR (version_at = ANY(CAST(:exact AS timestamptz[])) AND (:named OR is_newest_twin)))
         ORDER BY date_added LIMIT :rows
    )
    SELECT seen.known, page.*
      FROM (SELECT EXISTS (SELECT FROM object_versions
                            WHERE collection_id = :collection AND stix_id = ANY(CAST(:ids AS text[]))
                              AND level <= :clearance) AS known
           ) AS seen
      LEFT JOIN (
           SELECT string_agg(textsend((
                      SELECT body FROM object_versions AS whole
                       WHERE whole.collection_id = :collection AND whole.date_added = sized.date_added
                      )), ',') FILTER (WHERE fits AND :bodies) AS bodies,
                  string_agg(timestamptz_send(date_added), '') FILTER (WHERE fits) AS dates,
                  array_agg(stix_id) FILTER (WHERE fits AND NOT :bodies) AS ids,
                  array_agg(form) FILTER (WHERE fits AND NOT :bodies) AS forms,
                  array_agg(version) FILTER (WHERE fits AND NOT :bodies) AS versions,
                  bool_or(NOT fits) AS more
             FROM (SELECT *, nth = 1 OR (nth <= :limit AND octets <= :page_bytes) AS fits
                     FROM (SELECT *, row_number() OVER additions AS nth, sum(body_bytes) OVER additions AS octets
                             FROM walked WINDOW additions AS (ORDER BY date_added ROWS UNBOUNDED PRECEDING)) AS counted
                  ) AS sized
            WHERE nth <= 2 OR octets - body_bytes <= :page_bytes
            GROUP BY (octets - body_bytes) / 131072
           ) AS page ON true
""")
