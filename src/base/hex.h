#ifndef DUCT_HEX_H
#define DUCT_HEX_H

/* The value of a hex digit of either case, -1 when it is none. */
static inline int duct_hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

#endif
