-- The journal: what was decided, written before it is done.
-- Rules: `serving` changes only together with a row in `commits` and the state of its transaction;
-- a transaction that is still `prepared` when the journal is opened was cut off by a crash.

CREATE TABLE versions (
    module          TEXT NOT NULL,
    digest          TEXT NOT NULL,
    label           TEXT NOT NULL,
    source          TEXT NOT NULL,      -- where the author keeps it
    schema_version  INTEGER NOT NULL,
    schema          TEXT NOT NULL,      -- JSON
    stored_at       TEXT NOT NULL,      -- ISO 8601, UTC, as every time here
    PRIMARY KEY (module, digest)
) WITHOUT ROWID;

CREATE TABLE transactions (
    epoch       INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of beginning; never used twice
    id          TEXT NOT NULL UNIQUE,
    modules     TEXT NOT NULL,          -- JSON array of names
    reason      TEXT NOT NULL,
    state       TEXT NOT NULL
        CHECK (state IN ('prepared', 'committed', 'rolled_back', 'rejected', 'undone')),
    started_at  TEXT NOT NULL,
    ended_at    TEXT,
    report      TEXT                    -- JSON of the ReloadReport
);

CREATE TABLE participants (
    tx           TEXT NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
    module       TEXT NOT NULL,
    digest_from  TEXT NOT NULL,
    digest_to    TEXT NOT NULL,
    generation   INTEGER NOT NULL,      -- the candidate's
    PRIMARY KEY (tx, module)
) WITHOUT ROWID;

CREATE TABLE phases (
    tx        TEXT NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    phase     TEXT NOT NULL,
    place     TEXT NOT NULL CHECK (place IN ('window', 'pause')),
    seconds   REAL NOT NULL,
    outcome   TEXT NOT NULL,
    detail    TEXT NOT NULL,
    PRIMARY KEY (tx, position, place)
) WITHOUT ROWID;

CREATE TABLE commits (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    tx          TEXT NOT NULL,          -- kept when the transaction is pruned
    module      TEXT NOT NULL,
    digest      TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    FOREIGN KEY (module, digest) REFERENCES versions (module, digest)
);

CREATE INDEX commits_by_module ON commits (module, number);

CREATE TABLE serving (                  -- what serves: the one truth a start reads
    module   TEXT PRIMARY KEY,
    "commit" INTEGER NOT NULL REFERENCES commits (number)
) WITHOUT ROWID;

CREATE TABLE snapshots (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    module          TEXT NOT NULL,
    path            TEXT NOT NULL UNIQUE,
    digest          TEXT NOT NULL,      -- of the version that wrote it
    schema_version  INTEGER NOT NULL,
    taken_at        TEXT NOT NULL,
    kind            TEXT NOT NULL
);

CREATE INDEX snapshots_by_module ON snapshots (module, number);
