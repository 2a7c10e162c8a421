/* SQLite: a table is filled, indexed and asked; with a closed pool it has no memory. */

#include "bytepool/adapters/sqlite.h"

#include "job.h"

static int take_number(void *number, int count, char **values, char **names) {
    (void)count;
    (void)names;
    *(long *)number = strtol(values[0], NULL, 10);
    return 0;
}

int main(int argc, char **argv) {
    void *context = job_pool();
    sqlite3 *database = NULL;
    long sum = 0;
    check_begin(argc, argv);
    /* Without a pool a size is its own. */
    CHECK_EQ(bytepool_sqlite_round_up(100), 100);
    CHECK_EQ(bytepool_sqlite_use_default(), SQLITE_OK);
    REQUIRE(bytepool_set_default(context) == BYTEPOOL_OK);
    REQUIRE(sqlite3_initialize() == SQLITE_OK);
    REQUIRE(sqlite3_open(":memory:", &database) == SQLITE_OK);
    CHECK_EQ(sqlite3_exec(database,
                          "CREATE TABLE numbers (number INTEGER, text TEXT);"
                          "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 20000)"
                          " INSERT INTO numbers SELECT n, printf('%0200d', n) FROM count;"
                          "CREATE INDEX by_text ON numbers (text);",
                          NULL, NULL, NULL),
             SQLITE_OK);
    CHECK_EQ(sqlite3_exec(database,
                          "SELECT sum(number) FROM numbers WHERE text BETWEEN printf('%0200d', 101) AND "
                          "printf('%0200d', 200)",
                          take_number, &sum, NULL),
             SQLITE_OK);
    CHECK_EQ(sum, 15050);
    CHECK(stats_of(context).mapped_bytes > 20000 * 200);
    CHECK_EQ(sqlite3_close(database), SQLITE_OK);
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK(sqlite3_open(":memory:", &database) == SQLITE_NOMEM);
    CHECK_EQ(sqlite3_close(database), SQLITE_OK);
    CHECK_EQ(sqlite3_shutdown(), SQLITE_OK);
    CHECK_EQ(bytepool_set_default(NULL), BYTEPOOL_OK);
    job_done(context);
    return check_end("sqlite");
}
