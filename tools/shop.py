"""A small shop in Postgres for ./quickstart: its tables, its first rows, and a workload that keeps changing them."""

import json
import random
import threading
import time

TABLES = ["shop.customers", "shop.products", "shop.orders", "shop.order_items", "shop.events"]

SCHEMA = """
CREATE SCHEMA shop;

CREATE TABLE shop.customers (
    id bigint PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name text NOT NULL,
    born date,
    active boolean NOT NULL DEFAULT true,
    tags text[] NOT NULL DEFAULT '{}',
    profile jsonb,
    avatar bytea,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE shop.products (
    id uuid PRIMARY KEY,
    sku text NOT NULL UNIQUE,
    category text NOT NULL,
    price numeric(12,2) NOT NULL,
    weight_kg double precision,
    sizes integer[],
    description text,
    available boolean NOT NULL DEFAULT true
);
CREATE TABLE shop.orders (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES shop.customers ON UPDATE CASCADE,
    placed_at timestamptz NOT NULL DEFAULT now(),
    status text NOT NULL DEFAULT 'new',
    ship_on date,
    note text
);
CREATE TABLE shop.order_items (
    order_id bigint REFERENCES shop.orders ON UPDATE CASCADE ON DELETE CASCADE,
    line integer,
    product_id uuid NOT NULL REFERENCES shop.products,
    quantity integer NOT NULL,
    price numeric(12,2) NOT NULL,
    PRIMARY KEY (order_id, line)
);
CREATE TABLE shop.events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    customer_id bigint,
    payload jsonb NOT NULL
);
CREATE PUBLICATION shop FOR TABLES IN SCHEMA shop;
"""

# Every description of a product that ends in 7 is stored out of line (TOAST), as long texts are.
FIRST_ROWS = """
SELECT setseed(0.5);
INSERT INTO shop.customers
SELECT n, 'customer' || n || '@example.org', 'Customer ' || n,
       CASE WHEN n % 7 > 0 THEN date '1950-01-01' + n * 5 END, n % 10 > 0,
       CASE n % 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['new'] ELSE ARRAY['loyal', 'news, monthly', NULL] END,
       jsonb_build_object('city', (ARRAY['Oslo', 'Łódź', 'São Paulo', '京都'])[1 + n % 4], 'visits', n % 13, 'score', n / 8.0),
       decode(md5(n::text), 'hex'), timestamptz '2024-01-01 00:00+00' + n * interval '1 hour 7.000123 seconds'
FROM generate_series(1, 2000) n;
INSERT INTO shop.products
SELECT md5('product' || n)::uuid, 'SKU-' || to_char(n, 'FM0000'), (ARRAY['books', 'coffee', 'garden', 'music', 'tools'])[1 + n % 5],
       round((5 + random() * 200)::numeric, 2), CASE WHEN n % 4 > 0 THEN n / 7.0 END, ARRAY[n, n % 10, NULL],
       CASE WHEN n % 10 = 7 THEN (SELECT string_agg(md5((n * 1000 + i)::text), ' ') FROM generate_series(1, 200) i)
            ELSE 'A fine product, number ' || n END, true
FROM generate_series(1, 300) n;
INSERT INTO shop.orders
SELECT n, 1 + (n * 7919) % 2000, timestamptz '2025-01-01 00:00+00' + n * interval '11 minutes', 'delivered',
       date '2025-01-02' + n / 130, CASE WHEN n % 5 = 0 THEN 'leave at the door' END
FROM generate_series(1, 4000) n;
INSERT INTO shop.order_items
SELECT o.id, line, p.id, 1 + (o.id + line) % 4, p.price
FROM shop.orders o CROSS JOIN generate_series(1, 2) line
JOIN shop.products p ON p.sku = 'SKU-' || to_char(1 + (o.id * 31 + line * 17) % 300, 'FM0000');
INSERT INTO shop.events (kind, customer_id, payload)
SELECT 'visit', 1 + n % 2000, jsonb_build_object('page', '/p/' || n % 300, 'ms', n % 997) FROM generate_series(1, 3000) n;
"""

ADD_COLUMN_AT = 400  # transactions
TRUNCATE_AT = 700


class Workload(threading.Thread):
    """Changes the shop in many small transactions, until stop() and at least MINIMUM transactions.

    transactions  how many have been committed so far
    error         what ended the thread early, or None
    """

    def __init__(self, database, minimum=1000, per_second=300, seed=1):
        super().__init__(name="workload", daemon=True)
        self.transactions = 0
        self.error = None
        self._connection = database.connect(autocommit=True)
        self._minimum = minimum
        self._pause_s = 1 / per_second
        self._random = random.Random(seed)
        self._stop_wanted = threading.Event()
        self._next_order = 1_000_000
        self._next_customer = 1_000_000
        self._has_loyalty = False
        self._actions = [
            (self.place_order, 30),
            (self.advance_order, 20),
            (self.edit_customer, 15),
            (self.change_price, 8),
            (self.record_events, 12),
            (self.delete_order, 8),
            (self.change_keys, 4),
            (self.change_mind, 3),
        ]

    def stop(self):
        self._stop_wanted.set()

    def run(self):
        try:
            while not (self._stop_wanted.is_set() and self.transactions >= self._minimum):
                self._step()
        except Exception as error:
            self.error = error
        finally:
            self._connection.close()

    def _step(self):
        end = time.monotonic() + self._pause_s
        if self.transactions == ADD_COLUMN_AT:
            action = self.add_column
        elif self.transactions == TRUNCATE_AT:
            action = self.truncate_events
        else:
            actions, weights = zip(*self._actions)
            action = self._random.choices(actions, weights)[0]
        with self._connection.transaction():
            action()
        self.transactions += 1
        if not self._stop_wanted.is_set():
            self._stop_wanted.wait(max(0, end - time.monotonic()))

    def _sql(self, text, *values):
        return self._connection.execute(text, values)

    def _some_customer(self):
        """A customer that exists: the first one from a random number on."""
        number = self._random.randrange(1, 2000)
        return self._sql("SELECT id FROM shop.customers WHERE id >= %s ORDER BY id LIMIT 1", number).fetchone()[0]

    def _some_order(self):
        """An old or a new order that exists, or None."""
        number = self._random.choice(
            [self._random.randrange(1, 4000), self._random.randrange(1_000_000, self._next_order + 1)]
        )
        row = self._sql("SELECT id FROM shop.orders WHERE id >= %s ORDER BY id LIMIT 1", number).fetchone()
        return row[0] if row else None

    # --- transactions ---

    def place_order(self):
        self._next_order += 1
        customer = self._some_customer()
        self._sql("INSERT INTO shop.orders (id, customer_id) VALUES (%s, %s)", self._next_order, customer)
        for line in range(1, self._random.randrange(2, 6)):
            self._sql(
                "INSERT INTO shop.order_items SELECT %s, %s, id, %s, price FROM shop.products WHERE sku = %s",
                self._next_order,
                line,
                self._random.randrange(1, 9),
                f"SKU-{self._random.randrange(1, 301):04}",
            )
        payload = json.dumps({"order": self._next_order, "basket": [{"n": 1.50}, None, "çà"]})
        self._sql("INSERT INTO shop.events (kind, customer_id, payload) VALUES ('order', %s, %s)", customer, payload)

    def advance_order(self):
        self._sql(
            "UPDATE shop.orders SET status = %s, ship_on = CURRENT_DATE + %s WHERE id = %s",
            self._random.choice(["paid", "packed", "sent", "delivered"]),
            self._random.randrange(30),
            self._some_order(),
        )

    def edit_customer(self):
        customer = self._some_customer()
        self._sql(
            "UPDATE shop.customers SET profile = profile || %s, tags = array_append(tags[1:3], %s), active = NOT active"
            " WHERE id = %s",
            json.dumps({"visits": self._random.randrange(1000), "last": None}),
            self._random.choice(["vip", "", "it's", None]),
            customer,
        )
        if self._has_loyalty:
            self._sql(
                "UPDATE shop.customers SET loyalty_points = %s WHERE id = %s", self._random.randrange(10_000), customer
            )

    def change_price(self):
        """Leaves the long descriptions as they are: Postgres does not send them again."""
        self._sql(
            "UPDATE shop.products SET price = round(price * %s, 2), available = NOT available WHERE sku LIKE %s",
            self._random.choice(["1.05", "0.95"]),
            f"SKU-%{self._random.randrange(10)}7",
        )

    def record_events(self):
        self._sql(
            "INSERT INTO shop.events (kind, payload) SELECT 'sensor', jsonb_build_object('n', n, 'value', n / 3.0)"
            " FROM generate_series(1, %s) n",
            self._random.choice([1, 5, 50]),
        )

    def delete_order(self):
        """The items go with it (ON DELETE CASCADE)."""
        self._sql("DELETE FROM shop.orders WHERE id = %s", self._some_order())

    def change_keys(self):
        """A customer's key changes, and with it all their orders; the lines of an order move."""
        self._next_customer += 1
        self._sql("UPDATE shop.customers SET id = %s WHERE id = %s", self._next_customer, self._some_customer())
        self._sql("UPDATE shop.order_items SET line = line + 100 WHERE order_id = %s", self._some_order())

    def change_mind(self):
        """Work that is taken back inside the transaction must never be seen in the lake."""
        self._sql("INSERT INTO shop.events (kind, payload) VALUES ('kept', '{}')")
        self._sql("SAVEPOINT doubt")
        self._sql("INSERT INTO shop.events (kind, payload) VALUES ('rolled back', '{}')")
        self._sql("UPDATE shop.products SET price = 0")
        self._sql("ROLLBACK TO SAVEPOINT doubt")
        self._sql("UPDATE shop.orders SET note = 'after the savepoint' WHERE id = %s", self._some_order())

    def add_column(self):
        self._sql("ALTER TABLE shop.customers ADD COLUMN loyalty_points integer")
        self._has_loyalty = True

    def truncate_events(self):
        self._sql("TRUNCATE shop.events")
