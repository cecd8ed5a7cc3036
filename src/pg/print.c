/* What Postgres prints for values that have no lake type of their own, made from the binary form. Each function reads
 * one value; layouts are beside them. The text form arrives ready-made, so both roads give the same bytes. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/internal.h"

enum { MAX_FLOAT_DIGITS = 17, DBASE_DIGITS = 4, MAX_QUERY_DEPTH = 1000 };

/* Whether digits * 10^k is exactly odd * 2^e. */
static bool same_number(uint64_t digits, int k, uint64_t odd, int e)
{
	enum { MAX_POWER = 24 }; /* 5^24 alone has more bits than a double */
	pg_uint128 a = digits, b = odd, *scaled = k < 0 ? &b : &a;
	if (abs(k) > MAX_POWER)
		return false;
	for (int i = 0; i < abs(k); i++)
		*scaled *= 5;
	e -= k;
	for (; a && !(a & 1); e--)
		a >>= 1;
	return a == b && e == 0;
}

/* Whether digits * 10^k reads back as v. A decimal exactly between two doubles reads back as the even one, but Postgres
 * prints it for neither. */
static bool stands_for(uint64_t digits, int k, double v)
{
	char text[40];
	int e;
	uint64_t m = (uint64_t)ldexp(frexp(v, &e), 53);
	(void)snprintf(text, sizeof text, "%" PRIu64 "e%d", digits, k);
	if (strtod(text, NULL) != v)
		return false;
	e -= 53;
	if (same_number(digits, k, 2 * m + 1, e - 1))
		return false;
	return m == 1ULL << 52 ? !same_number(digits, k, 4 * m - 1, e - 2) : !same_number(digits, k, 2 * m - 1, e - 1);
}

/* The shortest digits that read back as v, not negative and finite; returns the decimal exponent of the first digit. */
static int shortest(double v, char *digits)
{
	uint64_t d = 0;
	int k = 0;
	for (int n = 1; n <= MAX_FLOAT_DIGITS; n++) {
		char text[40];
		(void)snprintf(text, sizeof text, "%.*e", n - 1, v);
		const char *p = text;
		for (d = 0; *p != 'e'; p++)
			if (*p != '.')
				d = d * 10 + (uint64_t)(*p - '0');
		k = atoi(p + 1) - (n - 1);
		if (stands_for(d, k, v))
			break;
		/* Above a power of two the doubles lie twice as far apart as below: the next decimal may still do. */
		if (stands_for(d + 1, k, v)) {
			d++;
			break;
		}
	}
	for (; d && d % 10 == 0; k++)
		d /= 10;
	return snprintf(digits, MAX_FLOAT_DIGITS + 2, "%" PRIu64, d) - 1 + k;
}

static void print_float8(struct duct_buf *to, double v)
{
	char digits[MAX_FLOAT_DIGITS + 2] = "";
	if (isnan(v)) {
		duct_buf_puts(to, "NaN");
		return;
	}
	if (signbit(v))
		duct_buf_putc(to, '-');
	if (isinf(v) || v == 0) {
		duct_buf_puts(to, v == 0 ? "0" : "Infinity");
		return;
	}
	int exponent = shortest(fabs(v), digits), n = (int)strlen(digits);
	if (exponent < -4 || exponent >= 15) {
		duct_buf_printf(to, "%c%s%se%c%02d", digits[0], n > 1 ? "." : "", digits + 1, exponent < 0 ? '-' : '+',
				abs(exponent));
	} else if (exponent < 0) {
		duct_buf_printf(to, "0.%.*s%s", -exponent - 1, "0000", digits);
	} else if (n <= exponent + 1) {
		duct_buf_printf(to, "%s%.*s", digits, exponent + 1 - n, "000000000000000");
	} else {
		duct_buf_printf(to, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
	}
}

static void put_group(struct duct_buf *to, int digit)
{
	char *p = duct_buf_room(to, DBASE_DIGITS);
	p[0] = (char)('0' + digit / 1000);
	p[1] = (char)('0' + digit / 100 % 10);
	p[2] = (char)('0' + digit / 10 % 10);
	p[3] = (char)('0' + digit % 10);
	to->len += DBASE_DIGITS;
}

/* u16 ndigits, i16 weight, u16 sign, u16 dscale, ndigits x u16 in base 10000; value = sum d[i] * 10000^(weight - i) */
void pg_print_numeric(struct duct_reader *r, struct duct_buf *to)
{
	int ndigits = duct_read_u16(r), weight = duct_read_i16(r), sign = duct_read_u16(r), dscale = duct_read_u16(r) & 0x3fff;
	const char *digits = duct_read_bytes(r, (size_t)ndigits * 2);
	if (sign == 0xc000 || sign == 0xd000 || sign == 0xf000) {
		duct_buf_puts(to, sign == 0xc000 ? "NaN" : sign == 0xd000 ? "Infinity" : "-Infinity");
		return;
	}
	if (!digits || (sign && sign != 0x4000)) {
		r->bad = true;
		return;
	}
	struct duct_reader d = duct_reader_over(digits, (size_t)ndigits * 2);
	if (sign)
		duct_buf_putc(to, '-');
	size_t start = to->len;
	for (int i = 0; i <= weight; i++) {
		int digit = i < ndigits ? duct_read_u16(&d) : 0;
		r->bad |= digit > 9999;
		put_group(to, digit % 10000);
	}
	size_t zeros = 0;
	while (start + zeros + 1 < to->len && to->data[start + zeros] == '0')
		zeros++;
	if (zeros) {
		memmove(to->data + start, to->data + start + zeros, to->len - start - zeros);
		to->len -= zeros;
	}
	if (weight < 0)
		duct_buf_putc(to, '0');
	if (dscale) {
		duct_buf_putc(to, '.');
		size_t end = to->len + (size_t)dscale;
		for (int i = -1; to->len < end; i--) {
			int digit = i > weight || duct_reader_left(&d) == 0 ? 0 : duct_read_u16(&d);
			r->bad |= digit > 9999;
			put_group(to, digit % 10000);
		}
		to->len = end;
	}
	(void)duct_buf_room(to, 0);
	to->data[to->len] = 0;
}

/* ".789" without trailing zeros; nothing when 0 */
static void put_fraction(struct duct_buf *to, uint32_t us)
{
	char text[16];
	if (!us)
		return;
	int n = snprintf(text, sizeof text, ".%06" PRIu32, us);
	while (text[n - 1] == '0')
		n--;
	duct_buf_append(to, text, (size_t)n);
}

static void put_unit(struct duct_buf *to, int64_t v, char unit)
{
	if (v)
		duct_buf_printf(to, "%" PRId64 "%c", v, unit);
}

/* i64 microseconds, i32 days, i32 months. ISO 8601 with designators; each unit has its own sign. */
void pg_print_interval(struct duct_reader *r, struct duct_buf *to, bool infinities)
{
	int64_t us = duct_read_i64(r);
	int32_t days = duct_read_i32(r), months = duct_read_i32(r);
	if (infinities && us == INT64_MAX && days == INT32_MAX && months == INT32_MAX) {
		duct_buf_puts(to, "infinity");
		return;
	}
	if (infinities && us == INT64_MIN && days == INT32_MIN && months == INT32_MIN) {
		duct_buf_puts(to, "-infinity");
		return;
	}
	if (!us && !days && !months) {
		duct_buf_puts(to, "PT0S");
		return;
	}
	duct_buf_putc(to, 'P');
	put_unit(to, months / 12, 'Y');
	put_unit(to, months % 12, 'M');
	put_unit(to, days, 'D');
	if (!us)
		return;
	duct_buf_putc(to, 'T');
	put_unit(to, us / 3600000000, 'H');
	put_unit(to, us / 60000000 % 60, 'M');
	int64_t rest = us % 60000000;
	if (rest) {
		uint32_t a = (uint32_t)(rest < 0 ? -rest : rest);
		duct_buf_printf(to, "%s%" PRIu32, rest < 0 ? "-" : "", a / 1000000);
		put_fraction(to, a % 1000000);
		duct_buf_putc(to, 'S');
	}
}

/* i64 microseconds of the local time, i32 seconds WEST of UTC */
void pg_print_timetz(struct duct_reader *r, struct duct_buf *to)
{
	int64_t us = duct_read_i64(r);
	int32_t west = duct_read_i32(r);
	if (us < 0 || us > 86400000000 || west <= -86400 * 7 || west >= 86400 * 7) {
		r->bad = true;
		return;
	}
	uint32_t s = (uint32_t)(us / 1000000), zone = (uint32_t)abs(west);
	duct_buf_printf(to, "%02" PRIu32 ":%02" PRIu32 ":%02" PRIu32, s / 3600, s / 60 % 60, s % 60);
	put_fraction(to, (uint32_t)(us % 1000000));
	duct_buf_printf(to, "%c%02" PRIu32, west > 0 ? '-' : '+', zone / 3600);
	if (zone % 3600)
		duct_buf_printf(to, ":%02" PRIu32, zone / 60 % 60);
	if (zone % 60)
		duct_buf_printf(to, ":%02" PRIu32, zone % 60);
}

/* i32 number of bits, bytes with the first bit highest */
void pg_print_bits(struct duct_reader *r, struct duct_buf *to)
{
	int32_t n = duct_read_i32(r);
	const char *bits = n < 0 ? NULL : duct_read_bytes(r, ((size_t)n + 7) / 8);
	if (!bits) {
		r->bad = true;
		return;
	}
	char *p = duct_buf_room(to, (size_t)n);
	for (int32_t i = 0; i < n; i++)
		p[i] = (char)('0' + ((uint8_t)bits[i / 8] >> (7 - i % 8) & 1));
	to->len += (size_t)n;
	to->data[to->len] = 0;
}

static void put_ipv4(struct duct_buf *to, const uint8_t *a)
{
	duct_buf_printf(to, "%u.%u.%u.%u", a[0], a[1], a[2], a[3]);
}

/* The longest run of zero groups (two at least, the first of equals) is "::"; addresses of IPv4 origin end dotted. */
static void put_ipv6(struct duct_buf *to, const uint8_t *a)
{
	unsigned group[8];
	int best = -1, best_len = 1;
	for (int i = 0; i < 8; i++)
		group[i] = (unsigned)a[2 * i] << 8 | a[2 * i + 1];
	for (int i = 0; i < 8; i++) {
		int n = 0;
		while (i + n < 8 && !group[i + n])
			n++;
		if (n > best_len) {
			best = i;
			best_len = n;
		}
		if (n)
			i += n - 1;
	}
	bool dotted = best == 0 && (best_len == 6 || (best_len == 5 && group[5] == 0xffff));
	for (int i = 0; i < 8; i++) {
		if (best >= 0 && i >= best && i < best + best_len) {
			if (i == best)
				duct_buf_putc(to, ':');
			continue;
		}
		if (i)
			duct_buf_putc(to, ':');
		if (i == 6 && dotted) {
			put_ipv4(to, a + 12);
			return;
		}
		duct_buf_printf(to, "%x", group[i]);
	}
	if (best >= 0 && best + best_len == 8)
		duct_buf_putc(to, ':');
}

/* u8 family (2, 3 = IPv6), u8 bits, u8 is_cidr, u8 bytes, address */
void pg_print_inet(struct duct_reader *r, struct duct_buf *to, bool cidr)
{
	unsigned family = duct_read_u8(r), bits = duct_read_u8(r);
	(void)duct_read_u8(r);
	unsigned n = duct_read_u8(r), full = family == 2 ? 4 : 16;
	const char *address = duct_read_bytes(r, n);
	if ((family != 2 && family != 3) || n != full || !address || bits > full * 8) {
		r->bad = true;
		return;
	}
	if (family == 2)
		put_ipv4(to, (const uint8_t *)address);
	else
		put_ipv6(to, (const uint8_t *)address);
	if (cidr || bits != full * 8)
		duct_buf_printf(to, "/%u", bits);
}

/* 6 or 8 bytes */
void pg_print_mac(struct duct_reader *r, struct duct_buf *to)
{
	size_t n = duct_reader_left(r);
	const char *p = duct_read_bytes(r, n);
	if (!p || (n != 6 && n != 8)) {
		r->bad = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		duct_buf_printf(to, "%s%02x", i ? ":" : "", (uint8_t)p[i]);
}

static double read_float8(struct duct_reader *r)
{
	uint64_t bits = duct_read_u64(r);
	double v;
	memcpy(&v, &bits, 8);
	return v;
}

static void put_floats(struct duct_reader *r, struct duct_buf *to, const char *open, int n, const char *separator, char close)
{
	duct_buf_puts(to, open);
	for (int i = 0; i < n; i++) {
		if (i)
			duct_buf_puts(to, separator);
		print_float8(to, read_float8(r));
	}
	duct_buf_putc(to, close);
}

static void put_points(struct duct_reader *r, struct duct_buf *to, int32_t n)
{
	if (n < 0 || duct_reader_left(r) / 16 < (size_t)n) {
		r->bad = true;
		return;
	}
	for (int32_t i = 0; i < n; i++)
		put_floats(r, to, i ? ",(" : "(", 2, ",", ')');
}

/* Doubles: lseg 4, box 4 (upper right first), line 3, circle 3; path u8 closed, i32 n, points; polygon i32 n, points */
void pg_print_geometric(enum pg_codec codec, struct duct_reader *r, struct duct_buf *to)
{
	bool closed = true;
	switch (codec) {
	case PG_BOX: put_points(r, to, 2); break;
	case PG_LINE: put_floats(r, to, "{", 3, ",", '}'); break;
	case PG_CIRCLE:
		duct_buf_putc(to, '<');
		put_points(r, to, 1);
		put_floats(r, to, ",", 1, "", '>');
		break;
	case PG_LSEG:
		duct_buf_putc(to, '[');
		put_points(r, to, 2);
		duct_buf_putc(to, ']');
		break;
	default:
		if (codec == PG_PATH)
			closed = duct_read_u8(r);
		duct_buf_putc(to, closed ? '(' : '[');
		put_points(r, to, duct_read_i32(r));
		duct_buf_putc(to, closed ? ')' : ']');
	}
}

/* u32 dimensions, highest bit: a point; doubles of one corner, then of the other */
void pg_print_cube(struct duct_reader *r, struct duct_buf *to)
{
	uint32_t head = duct_read_u32(r), n = head & 0x7fffffff;
	if (r->bad || n > 100) {
		r->bad = true;
		return;
	}
	put_floats(r, to, "(", (int)n, ", ", ')');
	if (!(head >> 31))
		put_floats(r, to, ",(", (int)n, ", ", ')');
}

/* 'lexeme' with ' and \ doubled */
static void put_lexeme(struct duct_buf *to, const char *s)
{
	duct_buf_putc(to, '\'');
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			duct_buf_putc(to, *s);
		duct_buf_putc(to, *s);
	}
	duct_buf_putc(to, '\'');
}

/* i32 n, n x {cstring, u16 positions, u16 each: weight in the two upper bits} */
void pg_print_tsvector(struct duct_reader *r, struct duct_buf *to)
{
	int32_t n = duct_read_i32(r);
	r->bad |= n < 0;
	for (int32_t i = 0; i < n && !r->bad; i++) {
		const char *lexeme = duct_read_cstr(r);
		unsigned positions = duct_read_u16(r);
		if (!lexeme)
			return;
		if (i)
			duct_buf_putc(to, ' ');
		put_lexeme(to, lexeme);
		for (unsigned k = 0; k < positions && !r->bad; k++) {
			unsigned p = duct_read_u16(r);
			static const char *const weights[] = {"", "C", "B", "A"};
			duct_buf_printf(to, "%c%u%s", k ? ',' : ':', p & 0x3fff, weights[p >> 14]);
		}
	}
}

struct query_node {
	int op; /* 0: a lexeme */
	const char *lexeme;
	unsigned weight, distance;
	bool prefix;
	int left, right; /* indexes; a NOT has only `right` */
};

/* Prefix order: an operator is followed by its right operand, then by its left one. */
static int read_query(struct duct_reader *r, struct query_node *nodes, int32_t total, int32_t *used, int depth)
{
	int at = *used;
	if (at >= total || depth > MAX_QUERY_DEPTH || r->bad) {
		r->bad = true;
		return 0;
	}
	struct query_node *q = &nodes[(*used)++];
	unsigned type = duct_read_u8(r);
	if (type == 1) {
		q->weight = duct_read_u8(r);
		q->prefix = duct_read_u8(r);
		q->lexeme = duct_read_cstr(r);
		r->bad |= !q->lexeme;
		return at;
	}
	q->op = duct_read_u8(r);
	if (type != 2 || q->op < 1 || q->op > 4) {
		r->bad = true;
		return 0;
	}
	if (q->op == 4)
		q->distance = duct_read_u16(r);
	q->right = read_query(r, nodes, total, used, depth + 1);
	if (q->op != 1)
		q->left = read_query(r, nodes, total, used, depth + 1);
	return at;
}

static void put_query(struct duct_buf *to, const struct query_node *nodes, int at, int parent, bool right_of_phrase)
{
	static const int priorities[] = {0, 4, 2, 1, 3}; /* -, not, and, or, phrase */
	const struct query_node *q = &nodes[at];
	if (!q->op) {
		put_lexeme(to, q->lexeme);
		if (q->weight || q->prefix)
			duct_buf_putc(to, ':');
		if (q->prefix)
			duct_buf_putc(to, '*');
		for (int i = 0; i < 4; i++)
			if (q->weight >> (3 - i) & 1)
				duct_buf_putc(to, "ABCD"[i]);
		return;
	}
	int priority = priorities[q->op];
	bool parens = priority < parent || (q->op == 4 && right_of_phrase);
	if (parens)
		duct_buf_puts(to, "( ");
	if (q->op == 1) {
		duct_buf_putc(to, '!');
		put_query(to, nodes, q->right, priority, false);
	} else {
		put_query(to, nodes, q->left, priority, false);
		if (q->op == 4 && q->distance != 1)
			duct_buf_printf(to, " <%u> ", q->distance);
		else
			duct_buf_puts(to, q->op == 2 ? " & " : q->op == 3 ? " | " : " <-> ");
		put_query(to, nodes, q->right, priority, q->op == 4);
	}
	if (parens)
		duct_buf_puts(to, " )");
}

/* i32 n, n x {1, u8 weight, u8 prefix, cstring | 2, u8 op, u16 distance of op 4} */
void pg_print_tsquery(struct duct_reader *r, struct duct_buf *to)
{
	int32_t n = duct_read_i32(r), used = 0;
	if (n < 0 || duct_reader_left(r) / 2 < (size_t)n) {
		r->bad = true;
		return;
	}
	if (!n || r->bad)
		return;
	AUTO_FREE struct query_node *nodes = duct_xcalloc((size_t)n, sizeof *nodes);
	(void)read_query(r, nodes, n, &used, 0);
	r->bad |= used != n;
	if (!r->bad)
		put_query(to, nodes, 0, -1, false);
}

/* i32 n, u64 xmin, u64 xmax, n x u64 */
void pg_print_snapshot(struct duct_reader *r, struct duct_buf *to)
{
	int32_t n = duct_read_i32(r);
	uint64_t xmin = duct_read_u64(r), xmax = duct_read_u64(r);
	duct_buf_printf(to, "%" PRIu64 ":%" PRIu64 ":", xmin, xmax);
	r->bad |= n < 0;
	for (int32_t i = 0; i < n && !r->bad; i++)
		duct_buf_printf(to, "%s%" PRIu64, i ? "," : "", duct_read_u64(r));
}
