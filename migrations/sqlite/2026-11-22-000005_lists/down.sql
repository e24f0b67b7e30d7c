DROP INDEX goods_by_category_phase;
DROP INDEX goods_by_seller_phase;
