-- Lists that ask for two things at once: without these a seller's ended goods, or a rare category's, would be looked
-- for among everybody's.
CREATE INDEX goods_by_seller_phase ON goods (seller_id, phase, id);
CREATE INDEX goods_by_category_phase ON goods (category, phase, id);
