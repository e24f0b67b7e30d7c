// The bidders’ page.
